-- name: add_tenant
-- A new tenant; its name is taken when nothing comes back.
INSERT INTO tenant (tenant_id, name) VALUES ($1, $2)
ON CONFLICT ON CONSTRAINT tenant_name_unique DO NOTHING
RETURNING tenant_id, name, created_at, suspended_at

-- name: find_tenant_by_name
-- A tenant by the name that operators use.
SELECT tenant_id, name, created_at, suspended_at FROM tenant WHERE name = $1

-- name: list_tenants
-- Every tenant, oldest first.
SELECT tenant_id, name, created_at, suspended_at FROM tenant ORDER BY created_at, tenant_id

-- name: add_api_key
-- A new API key: only the hash of its secret is kept.
INSERT INTO api_key (tenant_id, api_key_id, name, prefix, key_hash, scopes, allowed_networks, expires_at)
SELECT tenant_id, $2, $3, $4, $5, $6, $7, $8 FROM tenant WHERE tenant_id = $1
RETURNING tenant_id, api_key_id, name, prefix, scopes, allowed_networks, created_at, expires_at, revoked_at, last_used_at

-- name: list_api_keys
-- A tenant's API keys, revoked ones included, oldest first.
SELECT tenant_id, api_key_id, name, prefix, scopes, allowed_networks, created_at, expires_at, revoked_at, last_used_at
FROM api_key WHERE tenant_id = $1 ORDER BY created_at, api_key_id

-- name: revoke_api_key
-- End a key for good; the first revocation's moment stays.
UPDATE api_key SET revoked_at = coalesce(revoked_at, now()) WHERE tenant_id = $1 AND api_key_id = $2
RETURNING api_key_id

-- name: find_api_key
-- The key behind a hash if it may be used now, and when last_used_at is due to be written again.
-- The database's clock decides about expiry.
SELECT tenant_id, api_key_id, scopes, allowed_networks,
       coalesce(last_used_at < now() - $2::interval, true) AS is_touch_due
FROM api_key JOIN tenant USING (tenant_id)
WHERE key_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AND suspended_at IS NULL

-- name: touch_api_key
-- Note the use of a key, at most once in the interval whoever else notes it.
UPDATE api_key SET last_used_at = now()
WHERE tenant_id = $1 AND api_key_id = $2 AND coalesce(last_used_at < now() - $3::interval, true)

-- name: bump_generation
-- Tell every process that its cached API keys are out of date.
UPDATE generation SET value = value + 1 WHERE name = 'api_keys'

-- name: get_generation
-- The number that grows whenever a cached API key may have changed.
SELECT value FROM generation WHERE name = 'api_keys'
