-- Keys that are bound to a domain and replaced with an overlap, and row-level security behind whatever a tenant asks.
-- Only additions: processes of the release before are members of the service role and see everything, as before. They
-- do not know that a key may be bound to a domain: bring every api process to this release before such keys are made.

-- The one domain that the key may send from; NULL: any.
ALTER TABLE api_key ADD COLUMN sender_domain text;
-- The key that was made in this one's place; this one ends by itself, at `expires_at`.
ALTER TABLE api_key ADD COLUMN replaced_by uuid;
ALTER TABLE api_key ADD CONSTRAINT api_key_of_a_domain_only_sends
    CHECK (sender_domain IS NULL OR scopes = ARRAY['sending_access']);
-- Which keys end soon is asked every few seconds.
CREATE INDEX api_key_expiry ON api_key (expires_at) WHERE expires_at IS NOT NULL AND revoked_at IS NULL;

-- Row-level security ------------------------------------------------------------------------
-- What a tenant asks for runs as email_gateway_tenant, with the tenant's id in a setting of the transaction. A statement
-- that forgets its `tenant_id =` then still finds nothing of another tenant. Without the setting nothing is found at all.

CREATE FUNCTION current_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('email_gateway.tenant_id', true), '')::uuid;

-- Every table with a tenant_id is guarded by this, in the migration that makes it. What a tenant may do there is for
-- GRANT to say. The owner stands above policies: without that, a database that one user owns would be empty to its
-- processes, and so would be what a migration changes.
CREATE FUNCTION guard_tenant_rows(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY service ON %s TO email_gateway_service USING (true)', target);
    EXECUTE format('CREATE POLICY tenant ON %s TO email_gateway_tenant USING (tenant_id = current_tenant())', target);
END $$;

SELECT guard_tenant_rows(attrelid::regclass)
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE attname = 'tenant_id' AND relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
  -- Its rows are written by COPY, which PostgreSQL refuses under row-level security. No tenant may read it.
  AND relname <> 'sealed_piece';

-- What stands in pieces is read through this alone: as its owner, and for a tenant only what is its own.
CREATE OR REPLACE FUNCTION whole_value(tenant uuid, message uuid, bound_to uuid, first_piece bytea) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
    RETURN first_piece || coalesce((
        SELECT string_agg(piece, ''::bytea ORDER BY number) FROM sealed_piece
        WHERE tenant_id = tenant AND message_id = message AND row_id = bound_to
          AND (current_setting('role') <> 'email_gateway_tenant' OR tenant_id = current_tenant())), ''::bytea);
REVOKE ALL ON FUNCTION whole_value FROM PUBLIC;
GRANT EXECUTE ON FUNCTION whole_value TO email_gateway_service, email_gateway_tenant;
REVOKE ALL ON sealed_piece FROM email_gateway_tenant;

-- A key's hash is not for its tenant to read.
GRANT SELECT (tenant_id, api_key_id, name, prefix, scopes, allowed_networks, sender_domain, replaced_by, created_at,
              expires_at, revoked_at, last_used_at), INSERT, UPDATE (name, revoked_at) ON api_key TO email_gateway_tenant;
-- What a tenant does to its keys, and whom it searched for, is in the audit; it cannot read there.
GRANT INSERT ON audit TO email_gateway_tenant;
-- A key that was revoked is looked up again everywhere.
GRANT SELECT (name, value), UPDATE (value, changed_at) ON generation TO email_gateway_tenant;

-- Where one user owns everything and runs the processes too, that user must be able to act as a tenant.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner
               WHERE pg_class.oid = 'message'::regclass AND rolname = session_user AND NOT rolsuper) THEN
        EXECUTE format('GRANT email_gateway_tenant TO %I', session_user);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- the processes say at their start what is missing
END $$;
