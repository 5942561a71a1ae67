-- name: lock_roots
-- No key is made while a root comes or goes: genesis, adoption and retirement hold this alone.
SELECT pg_advisory_xact_lock(6373914, 2)

-- name: lock_roots_shared
-- Makers of keys hold it together, so they wait for a change of root and not for each other.
SELECT pg_advisory_xact_lock_shared(6373914, 2)

-- name: list_roots
-- Every root key the database has known, oldest first.
SELECT root_id, key_version_id, salt_version_id, state, canary, created_at, activated_at, retired_at
FROM crypto_root ORDER BY created_at, root_id

-- name: holds_sealed_values
-- Whether anything was ever sealed here: if so, an empty crypto_root means lost rows, not a beginning.
SELECT EXISTS (SELECT FROM crypto_key) OR EXISTS (SELECT FROM crypto_key_wrap)
    OR EXISTS (SELECT FROM message) OR EXISTS (SELECT FROM attachment) OR EXISTS (SELECT FROM inbox_mail)
    OR EXISTS (SELECT FROM blind_index) OR EXISTS (SELECT FROM idempotency)
    OR EXISTS (SELECT FROM event WHERE sealed_reply IS NOT NULL) AS found

-- name: add_active_root
-- The first root of a database.
INSERT INTO crypto_root (root_id, key_version_id, salt_version_id, canary, state, activated_at)
VALUES ($1, $2, $3, $4, 'active', now())

-- name: update_root_versions
-- The same root under new VersionIds: its secrets were put again, and the old versions may be pruned.
UPDATE crypto_root SET key_version_id = $2, salt_version_id = $3
WHERE root_id = $1 AND (key_version_id, salt_version_id) IS DISTINCT FROM ($2, $3)

-- name: sample_keys
-- Up to $3 keys with their wraps under a root, beginning at a random id: ids are fingerprints, so
-- neighbours have nothing in common, and the primary key serves where ORDER BY random() reads all.
SELECT key_id, tenant_id, purpose, state, (
    SELECT blob FROM crypto_key_wrap AS wrap WHERE wrap.key_id = sampled.key_id AND parent_id = $1) AS blob
FROM (
    (SELECT key_id, tenant_id, purpose, state FROM crypto_key
     WHERE key_id >= $2 AND state <> 'destroyed' ORDER BY key_id LIMIT $3)
    UNION ALL
    (SELECT key_id, tenant_id, purpose, state FROM crypto_key
     WHERE key_id < $2 AND state <> 'destroyed' ORDER BY key_id LIMIT $3)
    LIMIT $3
) AS sampled

-- name: list_active_keys
-- A tenant's keys in use, each with its wrap under one of the roots at hand, or NULL.
SELECT key_id, tenant_id, purpose, state, (
    SELECT blob FROM crypto_key_wrap AS wrap
    WHERE wrap.key_id = crypto_key.key_id AND parent_id = ANY ($2::bytea[]) LIMIT 1) AS blob
FROM crypto_key WHERE tenant_id = $1 AND state = 'active'

-- name: find_key
-- One key by its id, whatever its state, with its wrap under one of the roots at hand, or NULL.
SELECT key_id, tenant_id, purpose, state, (
    SELECT blob FROM crypto_key_wrap AS wrap
    WHERE wrap.key_id = crypto_key.key_id AND parent_id = ANY ($2::bytea[]) LIMIT 1) AS blob
FROM crypto_key WHERE key_id = $1

-- name: add_key
-- A new active key and its wrap. When another process has just made the tenant's key, this one
-- waits for its commit and then writes nothing.
WITH added AS (
    INSERT INTO crypto_key (key_id, tenant_id, purpose) VALUES ($1, $2, $3)
    ON CONFLICT (tenant_id, purpose) WHERE state = 'active' DO NOTHING
    RETURNING key_id
)
INSERT INTO crypto_key_wrap (key_id, parent_id, blob) SELECT key_id, $4, $5 FROM added

-- name: record_instance
-- A process says which roots it holds; those silent for a week are forgotten.
WITH forgotten AS (
    DELETE FROM crypto_instance WHERE seen_at < now() - interval '7 days' AND instance <> $1
)
INSERT INTO crypto_instance (instance, roots_held, release) VALUES ($1, $2, $3)
ON CONFLICT (instance) DO UPDATE
    SET roots_held = excluded.roots_held, release = excluded.release, seen_at = now()

-- name: count_keys
-- How many keys there are of each purpose and state.
SELECT purpose, state, count(*) AS count FROM crypto_key GROUP BY purpose, state ORDER BY purpose, state

-- name: count_wraps
-- How many keys that are not destroyed each root can open, roots that no longer stand here included.
SELECT parent_id, count(*) AS count
FROM crypto_key_wrap JOIN crypto_key USING (key_id) WHERE state <> 'destroyed'
GROUP BY parent_id

-- name: list_instances
-- Which processes were seen lately, and which roots each holds.
SELECT instance, roots_held, release, seen_at FROM crypto_instance
WHERE seen_at > now() - $1::interval ORDER BY seen_at DESC
