-- name: record_instance
-- A process says that it lives, what it holds, and which generations it has followed; those silent
-- for a week are forgotten.
WITH forgotten AS (
    DELETE FROM crypto_instance WHERE seen_at < now() - interval '7 days' AND instance <> $1
)
INSERT INTO crypto_instance (instance, process, host, pid, release, roots_held, active_root, secrets_generation,
                             keys_generation, secret_versions, failures)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11::jsonb)
ON CONFLICT (instance) DO UPDATE
    SET roots_held = excluded.roots_held, active_root = excluded.active_root, release = excluded.release,
        secrets_generation = excluded.secrets_generation, keys_generation = excluded.keys_generation,
        secret_versions = excluded.secret_versions, failures = excluded.failures, seen_at = now()

-- name: forget_instance
-- A process that ends in order need not be waited for.
DELETE FROM crypto_instance WHERE instance = $1

-- name: count_instances
-- How many processes of a kind were seen lately.
SELECT count(*) AS count FROM crypto_instance WHERE process = $1 AND seen_at > now() - $2::interval

-- name: list_instances
-- Which processes were seen lately, and what each holds.
SELECT instance, process, host, pid, release, roots_held, active_root, secrets_generation, keys_generation,
       secret_versions, failures, seen_at
FROM crypto_instance WHERE seen_at > now() - $1::interval ORDER BY process, host, pid, instance
