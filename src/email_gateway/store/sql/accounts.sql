-- name: add_tenant
-- A new tenant; its name is taken when nothing comes back.
INSERT INTO tenant (tenant_id, name) VALUES ($1, $2)
ON CONFLICT ON CONSTRAINT tenant_name_unique DO NOTHING
RETURNING tenant_id, name, created_at, suspended_at

-- name: find_tenant_by_name
-- A tenant by the name that operators use.
SELECT tenant_id, name, created_at, suspended_at FROM tenant WHERE name = $1

-- name: find_tenant
-- A tenant by its id.
SELECT tenant_id, name, created_at, suspended_at FROM tenant WHERE tenant_id = $1

-- name: rename_tenant
-- Another name for a tenant; raises tenant_name_unique where another has it.
UPDATE tenant SET name = $2 WHERE tenant_id = $1
RETURNING tenant_id, name, created_at, suspended_at

-- name: suspend_tenant
-- No key of this tenant opens anything from now on; the first suspension's moment stays.
UPDATE tenant SET suspended_at = coalesce(suspended_at, now()) WHERE tenant_id = $1
RETURNING tenant_id, name, created_at, suspended_at

-- name: resume_tenant
-- Its keys open again.
UPDATE tenant SET suspended_at = NULL WHERE tenant_id = $1
RETURNING tenant_id, name, created_at, suspended_at

-- name: list_tenants
-- Every tenant, oldest first.
SELECT tenant_id, name, created_at, suspended_at FROM tenant ORDER BY created_at, tenant_id

-- name: add_api_key
-- A new API key: only the hash of its secret is kept.
INSERT INTO api_key (tenant_id, api_key_id, name, prefix, key_hash, scopes, allowed_networks, expires_at, sender_domain)
SELECT tenant_id, $2, $3, $4, $5, $6, $7, $8, $9 FROM tenant WHERE tenant_id = $1
RETURNING tenant_id, api_key_id, name, prefix, scopes, allowed_networks, sender_domain, created_at, expires_at, revoked_at, last_used_at,
          replaced_by

-- name: find_api_key
-- One key of a tenant, whatever has become of it.
SELECT tenant_id, api_key_id, name, prefix, scopes, allowed_networks, sender_domain, created_at, expires_at, revoked_at, last_used_at,
       replaced_by
FROM api_key WHERE tenant_id = $1 AND api_key_id = $2

-- name: list_api_keys
-- A tenant's API keys, revoked ones included, oldest first.
SELECT tenant_id, api_key_id, name, prefix, scopes, allowed_networks, sender_domain, created_at, expires_at, revoked_at, last_used_at,
       replaced_by
FROM api_key WHERE tenant_id = $1 ORDER BY created_at, api_key_id

-- name: list_live_api_keys_after
-- One page of the keys that nobody revoked, the newest first, towards older ones.
SELECT tenant_id, api_key_id, name, prefix, scopes, allowed_networks, sender_domain, created_at, expires_at, revoked_at, last_used_at,
       replaced_by
FROM api_key
WHERE tenant_id = $1 AND revoked_at IS NULL
  AND ($2::uuid IS NULL OR (created_at, api_key_id) <
       (SELECT created_at, api_key_id FROM api_key WHERE tenant_id = $1 AND api_key_id = $2))
ORDER BY created_at DESC, api_key_id DESC LIMIT $3

-- name: list_live_api_keys_before
-- One page towards newer keys; the caller turns it round.
SELECT tenant_id, api_key_id, name, prefix, scopes, allowed_networks, sender_domain, created_at, expires_at, revoked_at, last_used_at,
       replaced_by
FROM api_key
WHERE tenant_id = $1 AND revoked_at IS NULL
  AND (created_at, api_key_id) > (SELECT created_at, api_key_id FROM api_key WHERE tenant_id = $1 AND api_key_id = $2)
ORDER BY created_at, api_key_id LIMIT $3

-- name: rename_api_key
-- Another name for a key that nobody revoked.
UPDATE api_key SET name = $3 WHERE tenant_id = $1 AND api_key_id = $2 AND revoked_at IS NULL
RETURNING api_key_id

-- name: replace_api_key
-- A new key that may do what the old one may, for as long as that was made for; the old one ends after the overlap.
-- Nothing comes back when the old key has ended or was replaced before.
WITH old AS (
    SELECT * FROM api_key
    WHERE tenant_id = $1 AND api_key_id = $2 AND revoked_at IS NULL AND replaced_by IS NULL
      AND (expires_at IS NULL OR expires_at > now())
    FOR UPDATE
), ended AS (
    UPDATE api_key SET replaced_by = $3, expires_at = least(api_key.expires_at, now() + $6::interval)
    FROM old WHERE api_key.tenant_id = old.tenant_id AND api_key.api_key_id = old.api_key_id
)
INSERT INTO api_key (tenant_id, api_key_id, name, prefix, key_hash, scopes, allowed_networks, sender_domain, expires_at)
SELECT tenant_id, $3, name, $4, $5, scopes, allowed_networks, sender_domain, now() + (expires_at - created_at) FROM old
RETURNING tenant_id, api_key_id, name, prefix, scopes, allowed_networks, sender_domain, created_at, expires_at, revoked_at, last_used_at,
          replaced_by

-- name: revoke_api_key
-- End a key for good; the first revocation's moment stays.
UPDATE api_key SET revoked_at = coalesce(revoked_at, now()) WHERE tenant_id = $1 AND api_key_id = $2
RETURNING tenant_id, api_key_id, name, prefix, scopes, allowed_networks, sender_domain, created_at, expires_at, revoked_at, last_used_at,
          replaced_by

-- name: find_account
-- The key behind a hash if it may be used now, and when last_used_at is due to be written again.
-- The database's clock decides about expiry.
SELECT tenant_id, api_key_id, scopes, allowed_networks, sender_domain, expires_at,
       suspended_at IS NOT NULL AS is_suspended,
       coalesce(last_used_at < now() - $2::interval, true) AS is_touch_due
FROM api_key JOIN tenant USING (tenant_id)
WHERE key_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: list_ending_api_keys
-- The keys that end by themselves within a time and were not replaced, those first that end first.
SELECT tenant.name AS tenant, prefix, expires_at
FROM api_key JOIN tenant USING (tenant_id)
WHERE expires_at > now() AND expires_at < now() + $1::interval AND revoked_at IS NULL AND replaced_by IS NULL
  AND suspended_at IS NULL
ORDER BY expires_at LIMIT $2

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
