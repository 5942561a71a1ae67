-- Addresses that get no mail. Only additions: a process of the release before accepts and sends as it did.

-- `sealed_entry` holds the address as it was given and the note beside it, under the field suppression.entry and
-- the row suppression_id. From it the blind values are made anew when an index key changes.
CREATE TABLE suppression (
    tenant_id      uuid NOT NULL,
    suppression_id uuid NOT NULL,
    sealed_entry   bytea NOT NULL,
    reason         text NOT NULL,
    source_id      uuid, -- the message that bounced, or that was complained about
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz,
    PRIMARY KEY (tenant_id, suppression_id),
    CONSTRAINT suppression_reason_known CHECK (reason IN ('bounce', 'complaint', 'manual', 'unsubscribe')),
    CONSTRAINT suppression_entry_is_sealed CHECK (get_byte(sealed_entry, 0) = 225 AND octet_length(sealed_entry) > 58)
);
CREATE INDEX suppression_expiry ON suppression (expires_at) WHERE expires_at IS NOT NULL;

-- By what a suppression is found: the value that `blind_index` has of the same address, one row for each index key
-- in use. An address is suppressed once. Apart from `blind_index`, which grows with the mail: every recipient of
-- every message is looked up here.
CREATE TABLE suppression_index (
    tenant_id      uuid NOT NULL,
    index_key_id   bytea NOT NULL,
    value          bytea NOT NULL,
    suppression_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, index_key_id, value),
    FOREIGN KEY (tenant_id, suppression_id) REFERENCES suppression ON DELETE CASCADE,
    CONSTRAINT suppression_index_is_blind CHECK (octet_length(value) = 16 AND octet_length(index_key_id) = 16)
);
CREATE INDEX suppression_index_row ON suppression_index (tenant_id, suppression_id);

-- Why mail to this recipient is suppressed, or null. The index is used whatever the table held when the plan was
-- made: a list that is imported into a table of one page would be walked for each recipient until the next ANALYZE.
CREATE FUNCTION suppressed_for(tenant uuid, key_id bytea, blind bytea) RETURNS text
    LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
DECLARE
    found_id uuid;
BEGIN
    SELECT suppression_id INTO found_id FROM suppression_index
    WHERE tenant_id = tenant AND index_key_id = key_id AND value = blind;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT reason FROM suppression WHERE tenant_id = tenant AND suppression_id = found_id
                                             AND (expires_at IS NULL OR expires_at > now()));
END $$;

-- `suppressed` is what happened to a delivery that nobody attempts.
ALTER TABLE event DROP CONSTRAINT event_kind_known;
ALTER TABLE event ADD CONSTRAINT event_kind_known CHECK (kind IN
    ('accepted', 'rescheduled', 'cancelled', 'sending', 'deferred', 'held', 'delivered', 'kept', 'bounced', 'complained',
     'suppressed', 'expired', 'in_doubt', 'dead', 'rescued', 'late', 'retried', 'discarded')) NOT VALID;

-- The ids of a tenant's index keys in use, which nobody changes until the transaction ends: whoever suppresses for the
-- tenant needs them, and may neither read the keys nor write them.
CREATE FUNCTION lock_index_keys(tenant uuid) RETURNS SETOF bytea
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT key_id FROM crypto_key
    WHERE tenant_id = tenant AND purpose = 2 AND state <> 'destroyed'
      AND (current_setting('role') <> 'email_gateway_tenant'
           OR tenant::text = current_setting('email_gateway.tenant_id', true))
    FOR UPDATE
$$;
REVOKE ALL ON FUNCTION lock_index_keys(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lock_index_keys(uuid) TO email_gateway_service, email_gateway_tenant;

GRANT SELECT, INSERT, UPDATE, DELETE ON suppression, suppression_index TO email_gateway_service, email_gateway_tenant;

-- Where tables are guarded by row-level security, these are too.
DO $$
BEGIN
    IF to_regproc('guard_tenant_rows') IS NOT NULL THEN
        PERFORM guard_tenant_rows('suppression');
        PERFORM guard_tenant_rows('suppression_index');
    END IF;
END $$;
