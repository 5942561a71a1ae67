-- What it takes to renew data keys while the fleet runs. Only additions: processes of the release
-- before run on, know the active keys alone, and are waited for before an index key changes.

-- An incoming index key is written beside the active one and not read yet; a decrypt_only one is
-- written and no longer read. Field keys need no such state: a value names the key it was sealed under.
ALTER TABLE crypto_key DROP CONSTRAINT crypto_key_state_known;
ALTER TABLE crypto_key ADD CONSTRAINT crypto_key_state_known CHECK (
    state IN ('active', 'decrypt_only', 'destroyed') OR (state = 'incoming' AND purpose = 2));
-- Of an index key: since when it is the one that is read. Its day must be over before the old one may go.
ALTER TABLE crypto_key ADD COLUMN activated_at timestamptz;
CREATE INDEX crypto_key_tenant ON crypto_key (tenant_id);
CREATE UNIQUE INDEX crypto_key_one_incoming ON crypto_key (tenant_id, purpose) WHERE state = 'incoming';
-- At most one index key beside the active one, be it on its way in or out. Deferrable, since at the
-- switch one takes the other's place, which two statements do.
ALTER TABLE crypto_key ADD CONSTRAINT crypto_key_two_in_use EXCLUDE USING btree (tenant_id WITH =)
    WHERE (purpose = 2 AND state IN ('incoming', 'decrypt_only')) DEFERRABLE INITIALLY IMMEDIATE;

-- The keys under which something may be written now.
CREATE VIEW crypto_key_in_use AS
SELECT key_id, tenant_id, purpose, state FROM crypto_key
WHERE state IN ('incoming', 'active') OR (purpose = 2 AND state = 'decrypt_only');

-- How far a walk has come that moves a tenant's rows to the key `key_id`: written with each batch, so
-- that it goes on from there. `relation` names the table walked; `unreadable` values were left as they are.
CREATE TABLE key_walk (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    relation     text NOT NULL,
    key_id       bytea NOT NULL,
    after_parent uuid NOT NULL,
    after_row    uuid NOT NULL,
    moved        bigint NOT NULL DEFAULT 0,
    skipped      bigint NOT NULL DEFAULT 0,
    unreadable   bigint NOT NULL DEFAULT 0,
    begun_at     timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    PRIMARY KEY (tenant_id, relation)
);

GRANT SELECT ON crypto_key_in_use TO email_gateway_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON key_walk TO email_gateway_service;
