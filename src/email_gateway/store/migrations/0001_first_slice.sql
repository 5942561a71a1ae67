-- Everything the first slice stores. Keys are led by tenant_id; nothing personal stands in clear.
-- Child rows of a message carry no foreign key to it: they are written by the one statement that
-- writes the message, and the check costs a tenth of the accept rate (docs/decisions.md).

-- Row-level security comes with the roles below; roles belong to the whole cluster, so another
-- database of the same cluster may have made them already, even at this moment.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['email_gateway_owner', 'email_gateway_service', 'email_gateway_tenant'] LOOP
        -- Who may not make roles can still migrate where an administrator has made them.
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = role_name);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;

-- Accounts ----------------------------------------------------------------------------------

CREATE TABLE tenant (
    tenant_id    uuid PRIMARY KEY,
    name         text NOT NULL CONSTRAINT tenant_name_unique UNIQUE,
    created_at   timestamptz NOT NULL DEFAULT now(),
    suspended_at timestamptz,
    CONSTRAINT tenant_name_is_short CHECK (length(name) BETWEEN 1 AND 100)
);

CREATE TABLE api_key (
    tenant_id        uuid NOT NULL REFERENCES tenant,
    api_key_id       uuid NOT NULL,
    name             text NOT NULL,
    prefix           text NOT NULL,
    key_hash         bytea NOT NULL CONSTRAINT api_key_hash_unique UNIQUE,
    scopes           text[] NOT NULL DEFAULT '{full_access}',
    allowed_networks cidr[] NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz,
    revoked_at       timestamptz,
    last_used_at     timestamptz,
    PRIMARY KEY (tenant_id, api_key_id),
    CONSTRAINT api_key_hash_is_sha256 CHECK (octet_length(key_hash) = 32),
    CONSTRAINT api_key_scopes_known CHECK (scopes <@ ARRAY['full_access', 'sending_access'] AND cardinality(scopes) > 0)
);

-- Numbers that grow when cached facts change: whoever missed a NOTIFY compares them.
CREATE TABLE generation (
    name  text PRIMARY KEY,
    value bigint NOT NULL DEFAULT 0
);
INSERT INTO generation (name) VALUES ('api_keys'), ('secrets');

-- Messages ----------------------------------------------------------------------------------

CREATE TABLE message (
    tenant_id        uuid NOT NULL,
    message_id       uuid NOT NULL,
    sealed_content   bytea NOT NULL,
    sealed_tax_id    bytea,
    size             integer NOT NULL,
    sender_domain    text NOT NULL,
    delivery_count   smallint NOT NULL,
    attachment_count smallint NOT NULL DEFAULT 0,
    on_doubt         text NOT NULL DEFAULT 'resend',
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz NOT NULL,
    dead_at_expiry   boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, message_id),
    CONSTRAINT message_has_deliveries CHECK (delivery_count BETWEEN 1 AND 50),
    CONSTRAINT message_on_doubt_known CHECK (on_doubt IN ('resend', 'hold')),
    CONSTRAINT message_content_is_sealed CHECK (get_byte(sealed_content, 0) = 225 AND octet_length(sealed_content) > 58),
    CONSTRAINT message_tax_id_is_sealed CHECK (octet_length(sealed_tax_id) = 74)
);

CREATE TABLE message_tag (
    tenant_id  uuid NOT NULL,
    message_id uuid NOT NULL,
    name       text NOT NULL,
    value      text NOT NULL,
    PRIMARY KEY (tenant_id, message_id, name)
);

CREATE TABLE attachment (
    tenant_id      uuid NOT NULL,
    message_id     uuid NOT NULL,
    position       smallint NOT NULL,
    attachment_id  uuid NOT NULL,
    sealed_content bytea NOT NULL,
    size           integer NOT NULL,
    PRIMARY KEY (tenant_id, message_id, position),
    CONSTRAINT attachment_is_sealed CHECK (get_byte(sealed_content, 0) = 225)
);

CREATE TABLE idempotency (
    tenant_id   uuid NOT NULL,
    key_hmac    bytea NOT NULL,
    fingerprint bytea NOT NULL,
    response    bytea NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key_hmac),
    CONSTRAINT idempotency_key_is_hmac CHECK (octet_length(key_hmac) = 16 AND octet_length(fingerprint) = 32)
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE blind_index (
    tenant_id    uuid NOT NULL,
    field        text NOT NULL,
    index_key_id bytea NOT NULL,
    value        bytea NOT NULL,
    message_id   uuid NOT NULL,
    PRIMARY KEY (tenant_id, field, index_key_id, value, message_id),
    CONSTRAINT blind_index_field_known CHECK (field IN ('tax_id', 'external_id', 'address')),
    CONSTRAINT blind_index_is_blind CHECK (octet_length(value) = 16 AND octet_length(index_key_id) = 16)
);

CREATE TABLE delivery (
    tenant_id        uuid NOT NULL,
    message_id       uuid NOT NULL,
    recipient        smallint NOT NULL,
    domain           text NOT NULL,
    state            text NOT NULL DEFAULT 'queued',
    phase            text,
    attempts         smallint NOT NULL DEFAULT 0,
    crashes          smallint NOT NULL DEFAULT 0,
    doubts           smallint NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz DEFAULT now(),
    claim_token      uuid,
    claim_expires_at timestamptz,
    reason           text,
    last_code        smallint,
    last_enhanced    text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz,
    PRIMARY KEY (tenant_id, message_id, recipient),
    CONSTRAINT delivery_state_known CHECK (state IN
        ('queued', 'sending', 'delivered', 'bounced', 'expired', 'suppressed', 'cancelled', 'dead')),
    CONSTRAINT delivery_phase_known CHECK (phase IN ('claimed', 'connected', 'rcpt_ok', 'dot_pending')),
    CONSTRAINT delivery_queued_is_due CHECK ((state = 'queued') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT delivery_sending_is_claimed CHECK (
        (state = 'sending') = (claim_token IS NOT NULL)
        AND (state = 'sending') = (claim_expires_at IS NOT NULL)
        AND (state = 'sending') = (phase IS NOT NULL)),
    CONSTRAINT delivery_final_is_finished CHECK ((state IN ('queued', 'sending')) = (finished_at IS NULL)),
    CONSTRAINT delivery_recipient_in_envelope CHECK (recipient BETWEEN 0 AND 49)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX delivery_due ON delivery (next_attempt_at) WHERE state = 'queued';
CREATE INDEX delivery_claimed ON delivery (claim_expires_at) WHERE state = 'sending';
CREATE INDEX delivery_dead ON delivery (finished_at) WHERE state = 'dead';

-- Append-only facts. `detail` is sealed under the field name event.reply and the row event_id.
CREATE TABLE event (
    tenant_id    uuid NOT NULL,
    message_id   uuid NOT NULL,
    event_id     uuid NOT NULL DEFAULT gen_random_uuid(),
    recipient    smallint,
    kind         text NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempt      smallint,
    stage        text,
    reason       text,
    code         smallint,
    enhanced     text,
    sealed_reply bytea,
    PRIMARY KEY (tenant_id, message_id, event_id),
    CONSTRAINT event_kind_known CHECK (kind IN
        ('accepted', 'sending', 'deferred', 'delivered', 'bounced', 'expired', 'in_doubt', 'dead',
         'rescued', 'late', 'retried', 'discarded')),
    CONSTRAINT event_reply_is_sealed CHECK (get_byte(sealed_reply, 0) = 225)
);

-- Rows arrive in the order of time, so a BRIN of a few pages serves the charts of the last hour.
CREATE INDEX event_time ON event USING brin (at);

-- What retention removed, per day: with it `accepted` is counted apart from the states.
CREATE TABLE daily_total (
    tenant_id uuid NOT NULL,
    day       date NOT NULL,
    accepted  bigint NOT NULL DEFAULT 0,
    delivered bigint NOT NULL DEFAULT 0,
    bounced   bigint NOT NULL DEFAULT 0,
    expired   bigint NOT NULL DEFAULT 0,
    suppressed bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    dead      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, day)
);

-- The contract's second line: accepted = the sum of the states, for every tenant, at every instant.
CREATE VIEW conservation AS
WITH counted AS (
    SELECT tenant_id,
           count(*) FILTER (WHERE state = 'delivered')  AS delivered,
           count(*) FILTER (WHERE state = 'bounced')    AS bounced,
           count(*) FILTER (WHERE state = 'expired')    AS expired,
           count(*) FILTER (WHERE state = 'suppressed') AS suppressed,
           count(*) FILTER (WHERE state = 'cancelled')  AS cancelled,
           count(*) FILTER (WHERE state = 'dead')       AS dead,
           count(*) FILTER (WHERE state = 'queued')     AS queued,
           count(*) FILTER (WHERE state = 'sending')    AS sending
    FROM delivery GROUP BY tenant_id
), accepted AS (
    SELECT tenant_id, sum(delivery_count) AS accepted FROM message GROUP BY tenant_id
), removed AS (
    SELECT tenant_id, sum(accepted) AS accepted, sum(delivered) AS delivered, sum(bounced) AS bounced,
           sum(expired) AS expired, sum(suppressed) AS suppressed, sum(cancelled) AS cancelled, sum(dead) AS dead
    FROM daily_total GROUP BY tenant_id
), summed AS (
    SELECT tenant.tenant_id,
           (coalesce(accepted.accepted, 0) + coalesce(removed.accepted, 0))::bigint       AS accepted,
           (coalesce(counted.delivered, 0) + coalesce(removed.delivered, 0))::bigint      AS delivered,
           (coalesce(counted.bounced, 0) + coalesce(removed.bounced, 0))::bigint          AS bounced,
           (coalesce(counted.expired, 0) + coalesce(removed.expired, 0))::bigint          AS expired,
           (coalesce(counted.suppressed, 0) + coalesce(removed.suppressed, 0))::bigint    AS suppressed,
           (coalesce(counted.cancelled, 0) + coalesce(removed.cancelled, 0))::bigint      AS cancelled,
           (coalesce(counted.dead, 0) + coalesce(removed.dead, 0))::bigint                AS dead,
           coalesce(counted.queued, 0)                                                    AS queued,
           coalesce(counted.sending, 0)                                                   AS sending
    FROM tenant
    LEFT JOIN counted USING (tenant_id)
    LEFT JOIN accepted USING (tenant_id)
    LEFT JOIN removed USING (tenant_id)
)
SELECT *, accepted - (delivered + bounced + expired + suppressed + cancelled + dead + queued + sending) AS difference
FROM summed;

-- The development inbox: what the `inbox` transport took, raw and sealed.
CREATE TABLE inbox_mail (
    tenant_id  uuid NOT NULL,
    inbox_id   uuid NOT NULL,
    message_id uuid NOT NULL,
    recipients smallint[] NOT NULL,
    sealed_raw bytea NOT NULL,
    size       integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, inbox_id),
    CONSTRAINT inbox_mail_is_sealed CHECK (get_byte(sealed_raw, 0) = 225)
);

-- Ciphertext does not compress: EXTERNAL spares the attempt, which cost a third of the accept rate.
-- (PostgreSQL 15 does not take STORAGE in CREATE TABLE.)
ALTER TABLE message ALTER COLUMN sealed_content SET STORAGE EXTERNAL;
ALTER TABLE attachment ALTER COLUMN sealed_content SET STORAGE EXTERNAL;
ALTER TABLE inbox_mail ALTER COLUMN sealed_raw SET STORAGE EXTERNAL;

-- The vault ---------------------------------------------------------------------------------

CREATE TABLE crypto_root (
    root_id         bytea PRIMARY KEY,
    key_version_id  text NOT NULL,
    salt_version_id text NOT NULL,
    state           text NOT NULL,
    canary          bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    activated_at    timestamptz,
    retired_at      timestamptz,
    CONSTRAINT crypto_root_id_length CHECK (octet_length(root_id) = 16),
    CONSTRAINT crypto_root_state_known CHECK (state IN ('pending', 'active', 'retiring', 'retired'))
);
CREATE UNIQUE INDEX crypto_root_one_active ON crypto_root (state) WHERE state = 'active';
CREATE UNIQUE INDEX crypto_root_one_pending ON crypto_root (state) WHERE state = 'pending';

-- purpose: 1 seals fields, 2 makes blind indexes. A key belongs to a tenant.
CREATE TABLE crypto_key (
    key_id     bytea PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenant,
    purpose    smallint NOT NULL,
    state      text NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT crypto_key_id_length CHECK (octet_length(key_id) = 16),
    CONSTRAINT crypto_key_purpose_known CHECK (purpose IN (1, 2)),
    CONSTRAINT crypto_key_state_known CHECK (state IN ('active', 'decrypt_only', 'destroyed'))
);
CREATE UNIQUE INDEX crypto_key_one_active ON crypto_key (tenant_id, purpose) WHERE state = 'active';

-- Wraps are only added; retirement of a root, days later, is the one thing that deletes them.
CREATE TABLE crypto_key_wrap (
    key_id     bytea NOT NULL REFERENCES crypto_key,
    parent_id  bytea NOT NULL,
    blob       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_id, parent_id),
    CONSTRAINT crypto_key_wrap_length CHECK (octet_length(blob) = 90)
);

CREATE TABLE crypto_instance (
    instance   uuid PRIMARY KEY,
    roots_held bytea[] NOT NULL,
    release    text NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE crypto_tombstone (
    key_id bytea NOT NULL,
    at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_id)
);

-- People ------------------------------------------------------------------------------------

-- Append-only: every admin act and every unsealing for a person's eyes. No personal data.
CREATE TABLE audit (
    audit_id  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor     text NOT NULL,
    action    text NOT NULL,
    tenant_id uuid,
    subject   text,
    reason    text
);
CREATE INDEX audit_time ON audit (at);

CREATE TABLE login_link (
    token_hash  bytea PRIMARY KEY,
    operator    text NOT NULL,
    expires_at  timestamptz NOT NULL,
    redeemed_at timestamptz,
    CONSTRAINT login_link_is_hashed CHECK (octet_length(token_hash) = 32)
);

-- `admin_key_hash` binds a session to the admin key it was opened with: it ends when the key changes.
CREATE TABLE dashboard_session (
    session_hash   bytea PRIMARY KEY,
    operator       text NOT NULL,
    csrf_hash      bytea NOT NULL,
    admin_key_hash bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    CONSTRAINT dashboard_session_is_hashed CHECK (octet_length(session_hash) = 32)
);

-- Append-only tables say so themselves.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER crypto_tombstone_is_append_only BEFORE UPDATE OR DELETE ON crypto_tombstone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO email_gateway_service;
REVOKE DELETE ON message, delivery, event, audit, crypto_root, crypto_key, crypto_tombstone FROM email_gateway_service;
-- Wraps are only added; the retirement of a root will bring its own grant.
REVOKE UPDATE, DELETE ON crypto_key_wrap FROM email_gateway_service;
GRANT SELECT ON tenant, message, message_tag, attachment, blind_index, delivery, event, idempotency TO email_gateway_tenant;
