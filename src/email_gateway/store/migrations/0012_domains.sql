-- The domains that tenants send from, and the keys that sign for them. Only additions: a process of the release
-- before neither signs nor asks whose a domain is, as until now.

CREATE TABLE domain (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    domain_id   uuid NOT NULL,
    name        text NOT NULL,
    state       text NOT NULL DEFAULT 'pending',
    created_at  timestamptz NOT NULL DEFAULT now(),
    checked_at  timestamptz,
    verified_at timestamptz,
    PRIMARY KEY (tenant_id, domain_id),
    -- Operators name a domain by its id alone.
    CONSTRAINT domain_id_unique UNIQUE (domain_id),
    -- Of one tenant: two may both prove in the DNS that they may send from a name.
    CONSTRAINT domain_name_unique UNIQUE (tenant_id, name),
    CONSTRAINT domain_name_is_canonical CHECK (name = lower(name) AND length(name) BETWEEN 3 AND 253),
    CONSTRAINT domain_state_known CHECK (state IN ('pending', 'verified', 'failed')),
    CONSTRAINT domain_verified_at_some_time CHECK (state = 'pending' OR verified_at IS NOT NULL)
);
-- Whom the doctor looks at.
CREATE INDEX domain_verified ON domain (domain_id) WHERE state <> 'pending';

-- A key's way: pending until the DNS shows it, active while it signs, retiring while what it signed may still be
-- checked, retired without its private half, which is sealed as `domain.dkim_key` for the row dkim_key_id.
CREATE TABLE dkim_key (
    tenant_id          uuid NOT NULL,
    domain_id          uuid NOT NULL,
    dkim_key_id        uuid NOT NULL,
    selector           text NOT NULL,
    algorithm          text NOT NULL,
    public_key         bytea NOT NULL,
    sealed_private_key bytea,
    state              text NOT NULL DEFAULT 'pending',
    created_at         timestamptz NOT NULL DEFAULT now(),
    activated_at       timestamptz,
    retiring_at        timestamptz,
    retired_at         timestamptz,
    PRIMARY KEY (tenant_id, domain_id, dkim_key_id),
    FOREIGN KEY (tenant_id, domain_id) REFERENCES domain ON DELETE CASCADE,
    CONSTRAINT dkim_key_selector_unique UNIQUE (tenant_id, domain_id, selector),
    CONSTRAINT dkim_key_algorithm_known CHECK (algorithm IN ('rsa-sha256', 'ed25519-sha256')),
    CONSTRAINT dkim_key_state_known CHECK (state IN ('pending', 'active', 'retiring', 'retired')),
    CONSTRAINT dkim_key_is_sealed CHECK (get_byte(sealed_private_key, 0) = 225),
    CONSTRAINT dkim_key_signs_until_retired CHECK ((sealed_private_key IS NULL) = (state = 'retired'))
);
-- One of each algorithm is on its way, and one signs.
CREATE UNIQUE INDEX dkim_key_one_pending ON dkim_key (tenant_id, domain_id, algorithm) WHERE state = 'pending';
CREATE UNIQUE INDEX dkim_key_one_active ON dkim_key (tenant_id, domain_id, algorithm) WHERE state = 'active';
CREATE INDEX dkim_key_retiring ON dkim_key (retiring_at) WHERE state = 'retiring';
ALTER TABLE dkim_key ALTER COLUMN sealed_private_key SET STORAGE EXTERNAL;

-- Grows when a domain or a key of anybody changes: what processes keep in memory about them is looked up again.
INSERT INTO generation (name) VALUES ('domains');

GRANT SELECT, INSERT, UPDATE, DELETE ON domain, dkim_key TO email_gateway_service, email_gateway_tenant;
