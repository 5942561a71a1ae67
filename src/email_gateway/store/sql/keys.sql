-- name: lock_roots
-- No key is made while a root comes or goes: genesis, adoption and retirement hold this alone.
SELECT pg_advisory_xact_lock(6373914, 2)

-- name: lock_adoption
-- One process at a time changes the roots; keys are made meanwhile, until the moment of the change.
SELECT pg_advisory_xact_lock(6373914, 3)

-- name: lock_roots_shared
-- Makers of keys hold it together, so they wait for a change of root and not for each other.
SELECT pg_advisory_xact_lock_shared(6373914, 2)

-- name: only_look
-- Everything that is read in this transaction is as it stood at one moment, and nothing can be written.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: list_roots
-- Every root key the database has known, oldest first.
SELECT root_id, key_version_id, salt_version_id, state, canary, created_at, activated_at, retired_at, retiring_at,
       verified_at
FROM crypto_root ORDER BY created_at, root_id

-- name: list_roots_of_key
-- The roots that have a wrap of this key: the active one first, then the youngest.
SELECT root_id, key_version_id, salt_version_id, state, canary, crypto_root.created_at, activated_at, retired_at,
       retiring_at, verified_at
FROM crypto_root JOIN crypto_key_wrap ON parent_id = root_id WHERE key_id = $1
ORDER BY state <> 'active', crypto_root.created_at DESC

-- name: holds_sealed_values
-- Whether anything was ever sealed here: if so, an empty crypto_root means lost rows, not a beginning.
SELECT EXISTS (SELECT FROM crypto_key) OR EXISTS (SELECT FROM crypto_key_wrap)
    OR EXISTS (SELECT FROM message) OR EXISTS (SELECT FROM attachment) OR EXISTS (SELECT FROM inbox_mail)
    OR EXISTS (SELECT FROM dkim_key)
    OR EXISTS (SELECT FROM blind_index) OR EXISTS (SELECT FROM idempotency) OR EXISTS (SELECT FROM suppression)
    OR EXISTS (SELECT FROM blind_index) OR EXISTS (SELECT FROM idempotency) OR EXISTS (SELECT FROM template_version)
    OR EXISTS (SELECT FROM webhook) OR EXISTS (SELECT FROM webhook_delivery WHERE sealed_answer IS NOT NULL)
    OR EXISTS (SELECT FROM event WHERE sealed_reply IS NOT NULL) AS found

-- name: update_root_versions
-- The same root under new VersionIds: its secrets were put again, and the old versions may be pruned.
UPDATE crypto_root SET key_version_id = $2, salt_version_id = $3
WHERE root_id = $1 AND (key_version_id, salt_version_id) IS DISTINCT FROM ($2, $3)

-- name: put_root
-- A root and the VersionIds it was read by. A new one is nothing yet: `make_active` or `make_pending` follows.
INSERT INTO crypto_root (root_id, key_version_id, salt_version_id, canary, state, retiring_at)
VALUES ($1, $2, $3, $4, 'retiring', now())
ON CONFLICT (root_id) DO UPDATE
    SET key_version_id = excluded.key_version_id, salt_version_id = excluded.salt_version_id

-- name: demote
-- Whichever other root is in this state begins to retire. A statement of its own: of two active
-- roots, even for a moment, the unique index would refuse one.
UPDATE crypto_root SET state = 'retiring', retiring_at = now() WHERE state = $2 AND root_id <> $1

-- name: make_active
-- This root takes over.
UPDATE crypto_root SET state = 'active', activated_at = now(), retiring_at = NULL, retired_at = NULL WHERE root_id = $1

-- name: make_pending
-- This root waits for its secret's label to move; its hour begins now. One that is active stays so.
UPDATE crypto_root SET state = 'pending', created_at = now(), retiring_at = NULL, retired_at = NULL
WHERE root_id = $1 AND state <> 'active'

-- name: is_pending_lately
-- Whether another root was staged within the interval and has not been promoted.
SELECT EXISTS (
    SELECT FROM crypto_root WHERE state = 'pending' AND root_id <> $1 AND created_at > now() - $2::interval) AS found

-- name: note_verified
-- Every live data key has just been opened under this root.
UPDATE crypto_root SET verified_at = now() WHERE root_id = $1

-- name: retire_root
-- Delete the root's wraps; the function refuses what is in force or still needed.
SELECT retire_root($1) AS deleted

-- name: page_keys
-- The next live keys after an id, each with its wrap under one root and one under any of those at hand.
-- The root is looked for among the key's own few wraps. Asked for by key and root, the planner expects no
-- row of a root that has just come, and reads every wrap of it again for each key.
SELECT key_id, tenant_id, purpose, state, (
    SELECT blob FROM crypto_key_wrap AS wrap
    WHERE wrap.key_id = crypto_key.key_id AND parent_id = ANY ($2::bytea[])
    ORDER BY parent_id <> $1 LIMIT 1) AS blob, $1 = ANY (ARRAY(
    SELECT parent_id FROM crypto_key_wrap AS wrap WHERE wrap.key_id = crypto_key.key_id)) AS is_wrapped
FROM crypto_key WHERE key_id > $3 AND state <> 'destroyed' ORDER BY key_id LIMIT $4

-- name: page_unwrapped_keys
-- The same of the keys alone that have no wrap under the root yet.
SELECT key_id, tenant_id, purpose, state, (
    SELECT blob FROM crypto_key_wrap AS wrap
    WHERE wrap.key_id = crypto_key.key_id AND parent_id = ANY ($2::bytea[]) LIMIT 1) AS blob, false AS is_wrapped
FROM crypto_key WHERE key_id > $3 AND state <> 'destroyed' AND $1 <> ALL (ARRAY(
    SELECT parent_id FROM crypto_key_wrap AS wrap WHERE wrap.key_id = crypto_key.key_id))
ORDER BY key_id LIMIT $4

-- name: add_wraps
-- Wraps are only added; what comes back is what is now stored.
INSERT INTO crypto_key_wrap (key_id, parent_id, blob)
SELECT key_id, $1, blob FROM unnest($2::bytea[], $3::bytea[]) AS fresh (key_id, blob)
ON CONFLICT (key_id, parent_id) DO NOTHING
RETURNING key_id, blob

-- name: count_live_keys
-- How many data keys there are to open.
SELECT count(*) AS count FROM crypto_key WHERE state <> 'destroyed'

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
-- A new key and its wraps. When another process has just made the tenant's active key, this one
-- waits for its commit and then writes nothing.
WITH added AS (
    INSERT INTO crypto_key (key_id, tenant_id, purpose, state) VALUES ($1, $2, $3, $6)
    ON CONFLICT (tenant_id, purpose) WHERE state = 'active' DO NOTHING
    RETURNING key_id
)
INSERT INTO crypto_key_wrap (key_id, parent_id, blob)
SELECT key_id, parent_id, blob FROM added, unnest($4::bytea[], $5::bytea[]) AS fresh (parent_id, blob)

-- name: count_keys
-- How many keys there are of each purpose and state.
SELECT purpose, state, count(*) AS count FROM crypto_key GROUP BY purpose, state ORDER BY purpose, state

-- name: count_wraps
-- How many keys that are not destroyed each root can open, roots that no longer stand here included.
SELECT parent_id, count(*) AS count
FROM crypto_key_wrap JOIN crypto_key USING (key_id) WHERE state <> 'destroyed'
GROUP BY parent_id
