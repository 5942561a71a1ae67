-- name: count_domains
-- How many domains a tenant has; two that are added at a time may not count each other. No row: no tenant.
SELECT (SELECT count(*) FROM domain WHERE domain.tenant_id = tenant.tenant_id) AS count
FROM tenant WHERE tenant_id = $1

-- name: add_domain
-- A new domain; the tenant has it already when nothing comes back.
INSERT INTO domain (tenant_id, domain_id, name) VALUES ($1, $2, $3)
ON CONFLICT ON CONSTRAINT domain_name_unique DO NOTHING
RETURNING domain_id

-- name: add_key
-- A key on its way into use; another of its algorithm is on its way when nothing comes back.
INSERT INTO dkim_key (tenant_id, domain_id, dkim_key_id, selector, algorithm, public_key, sealed_private_key)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, domain_id, algorithm) WHERE state = 'pending' DO NOTHING
RETURNING dkim_key_id

-- name: lock_domain
-- One change of a domain at a time.
SELECT domain_id FROM domain WHERE tenant_id = $1 AND domain_id = $2 FOR UPDATE

-- name: find_domain
-- A tenant's domain.
SELECT tenant_id, domain_id, name, state, created_at, checked_at, verified_at
FROM domain WHERE tenant_id = $1 AND domain_id = $2

-- name: find_domain_by_id
-- Anybody's domain, as operators name it.
SELECT tenant_id, domain_id, name, state, created_at, checked_at, verified_at FROM domain WHERE domain_id = $1

-- name: find_domain_by_name
-- A tenant's domain by its name.
SELECT tenant_id, domain_id, name, state, created_at, checked_at, verified_at
FROM domain WHERE tenant_id = $1 AND name = $2

-- name: list_domains_after
-- Domains, newest first, older than a cursor when there is one; everybody's without a tenant.
SELECT tenant_id, domain_id, name, state, created_at, checked_at, verified_at
FROM domain WHERE ($1::uuid IS NULL OR tenant_id = $1) AND ($2::uuid IS NULL OR domain_id < $2)
ORDER BY domain_id DESC LIMIT $3

-- name: list_domains_before
-- The domains next newer than a cursor, oldest first.
SELECT tenant_id, domain_id, name, state, created_at, checked_at, verified_at
FROM domain WHERE ($1::uuid IS NULL OR tenant_id = $1) AND domain_id > $2
ORDER BY domain_id LIMIT $3

-- name: list_proven_domains
-- Domains that somebody sends from, of every tenant; of many each look sees others.
SELECT tenant_id, domain_id, name, state, created_at, checked_at, verified_at
FROM domain WHERE state <> 'pending' ORDER BY random() LIMIT $1

-- name: list_keys
-- The keys of domains, the oldest first, RSA before Ed25519.
SELECT domain_id, dkim_key_id, selector, algorithm, public_key, state, created_at, activated_at, retiring_at, retired_at
FROM dkim_key WHERE (tenant_id, domain_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[])) ORDER BY created_at, algorithm DESC

-- name: retire_relieved
-- Keys that sign until one of their algorithm, which the DNS shows now, takes over.
UPDATE dkim_key SET state = 'retiring', retiring_at = now()
WHERE tenant_id = $1 AND domain_id = $2 AND state = 'active' AND algorithm IN (
    SELECT algorithm FROM dkim_key
    WHERE tenant_id = $1 AND domain_id = $2 AND dkim_key_id = ANY($3::uuid[]) AND state = 'pending')

-- name: activate_keys
-- Keys that the DNS shows sign from now on.
UPDATE dkim_key SET state = 'active', activated_at = now()
WHERE tenant_id = $1 AND domain_id = $2 AND dkim_key_id = ANY($3::uuid[]) AND state = 'pending'
RETURNING dkim_key_id

-- name: set_state
-- What the DNS says of a domain now. The first moment at which it was right stays.
UPDATE domain SET state = $3, checked_at = now(),
                  verified_at = CASE WHEN $3 = 'verified' THEN coalesce(verified_at, now()) ELSE verified_at END
WHERE tenant_id = $1 AND domain_id = $2

-- name: remove_domain
-- A domain with its keys.
DELETE FROM domain WHERE tenant_id = $1 AND domain_id = $2 RETURNING domain_id

-- name: retire_keys
-- Keys that stopped signing so long ago that nothing they signed is on its way: their private halves are destroyed.
UPDATE dkim_key SET state = 'retired', retired_at = now(), sealed_private_key = NULL
WHERE state = 'retiring' AND retiring_at < now() - $1::interval
RETURNING dkim_key_id

-- name: list_signers
-- What signs for any of these names of a tenant, the longest name first.
SELECT name, dkim_key_id, selector, algorithm, sealed_private_key
FROM domain JOIN dkim_key USING (tenant_id, domain_id)
WHERE tenant_id = $1 AND name = ANY($2::text[]) AND dkim_key.state = 'active'
ORDER BY length(name) DESC, algorithm DESC

-- name: find_verified
-- Whether the tenant has proven one of these names.
SELECT true AS is_verified FROM domain WHERE tenant_id = $1 AND name = ANY($2::text[]) AND state = 'verified' LIMIT 1

-- name: bump_generation
-- Tell every process that what it knows of domains is out of date.
UPDATE generation SET value = value + 1 WHERE name = 'domains'

-- name: get_generation
-- The number that grows with every change of a domain or a key.
SELECT value FROM generation WHERE name = 'domains'
