-- name: list_keys_in_use
-- A tenant's keys under which something may be written now, each with its wrap under one of the
-- roots at hand, or NULL.
SELECT key_id, tenant_id, purpose, state, (
    SELECT blob FROM crypto_key_wrap AS wrap
    WHERE wrap.key_id = crypto_key_in_use.key_id AND parent_id = ANY ($2::bytea[]) LIMIT 1) AS blob
FROM crypto_key_in_use WHERE tenant_id = $1 ORDER BY purpose, state

-- name: list_changed_keys
-- The same of those tenants alone whose keys in use are others than a process holds; what it holds
-- is told as one value per tenant, so that thousands of tenants without a change cost one answer.
WITH held AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::bytea[]) AS held (tenant_id, key_ids)
), changed AS (
    SELECT tenant_id FROM held JOIN crypto_key_in_use USING (tenant_id)
    GROUP BY tenant_id, key_ids HAVING string_agg(key_id, ''::bytea ORDER BY purpose, state) <> key_ids
)
SELECT key_id, tenant_id, purpose, state, (
    SELECT blob FROM crypto_key_wrap AS wrap
    WHERE wrap.key_id = crypto_key_in_use.key_id AND parent_id = ANY ($3::bytea[]) LIMIT 1) AS blob
FROM crypto_key_in_use JOIN changed USING (tenant_id) ORDER BY tenant_id, purpose, state

-- name: demote_field_key
-- The tenant's active field key opens from now on and seals no more, if it is at least this old.
UPDATE crypto_key SET state = 'decrypt_only'
WHERE tenant_id = $1 AND purpose = 1 AND state = 'active' AND created_at <= now() - $2::interval

-- name: list_old_field_keys
-- Tenants whose active field key is at least this old, the oldest first.
SELECT tenant_id FROM crypto_key
WHERE purpose = 1 AND state = 'active' AND created_at <= now() - $1::interval ORDER BY created_at LIMIT $2

-- name: list_index_keys
-- Every index key that a tenant has had, oldest first, and how long each has been the one that is read.
SELECT key_id, state, created_at, activated_at, now() - coalesce(activated_at, created_at) AS age
FROM crypto_key WHERE tenant_id = $1 AND purpose = 2 ORDER BY created_at, key_id

-- name: list_index_rotations
-- Every tenant with two index keys in use: the key, and how far the walk that copies its index has come.
SELECT tenant.name, key.tenant_id, key.key_id, key.state, key.created_at, key.activated_at,
       coalesce(walk.moved, 0) AS moved, walk.finished_at IS NOT NULL AS is_copied
FROM crypto_key AS key JOIN tenant USING (tenant_id)
LEFT JOIN key_walk AS walk ON walk.tenant_id = key.tenant_id AND relation = 'blind_index' AND walk.key_id = key.key_id
WHERE purpose = 2 AND key.state <> 'destroyed' AND EXISTS (
    SELECT FROM crypto_key_in_use AS other
    WHERE other.tenant_id = key.tenant_id AND other.purpose = 2 AND other.state <> 'active')
ORDER BY tenant.name, key.state

-- name: lock_index_keys
-- One change of a tenant's index keys at a time.
SELECT key_id FROM lock_index_keys($1) AS key_id

-- name: defer_two_in_use
-- For the length of the switch two keys stand beside an active one.
SET CONSTRAINTS crypto_key_two_in_use DEFERRED

-- name: retire_index_key
-- The active index key is written on and no longer read.
UPDATE crypto_key SET state = 'decrypt_only' WHERE tenant_id = $1 AND purpose = 2 AND state = 'active'

-- name: promote_index_key
-- The incoming index key is the one that is read from now on.
UPDATE crypto_key SET state = 'active', activated_at = now()
WHERE tenant_id = $1 AND purpose = 2 AND state = 'incoming'

-- name: destroy_index_key
-- Nothing is written under this index key any more.
UPDATE crypto_key SET state = 'destroyed'
WHERE tenant_id = $1 AND purpose = 2 AND state = 'decrypt_only' AND key_id = $2
