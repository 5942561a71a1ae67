-- Webhooks: where a tenant's events are sent. Only additions: a process of the release before makes events as ever, and
-- the trigger below makes deliveries of them all the same.

-- An endpoint may hold a token, so it is sealed, like the secrets; `host` names it to operators.
-- An old secret signs beside the new one for a while, so that receivers can change it without a gap.
-- `kinds` are the kinds of events behind the words in `events`: what the trigger compares.
CREATE TABLE webhook (
    tenant_id         uuid NOT NULL REFERENCES tenant,
    webhook_id        uuid NOT NULL,
    host              text NOT NULL,
    sealed_endpoint   bytea NOT NULL,
    sealed_secret     bytea NOT NULL,
    sealed_old_secret bytea,
    old_secret_until  timestamptz,
    events            text[] NOT NULL,
    kinds             text[] NOT NULL,
    status            text NOT NULL DEFAULT 'enabled',
    disabled_by       text,
    include_personal  boolean NOT NULL DEFAULT false,
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, webhook_id),
    CONSTRAINT webhook_id_unique UNIQUE (webhook_id),
    CONSTRAINT webhook_status_known CHECK (status IN ('enabled', 'disabled')),
    CONSTRAINT webhook_disabled_by_somebody CHECK ((status = 'disabled') = (disabled_by IS NOT NULL)),
    CONSTRAINT webhook_has_events CHECK (cardinality(events) > 0 AND cardinality(kinds) > 0),
    CONSTRAINT webhook_is_sealed CHECK (get_byte(sealed_endpoint, 0) = 225 AND get_byte(sealed_secret, 0) = 225
                                        AND get_byte(sealed_old_secret, 0) = 225),
    CONSTRAINT webhook_old_secret_ends CHECK ((sealed_old_secret IS NULL) = (old_secret_until IS NULL))
);

-- How an endpoint does, apart from the webhook: this row changes with everything that is sent.
-- One worker at a time holds an endpoint, so that what it is sent about one message keeps its order.
CREATE TABLE webhook_standing (
    tenant_id        uuid NOT NULL,
    webhook_id       uuid PRIMARY KEY REFERENCES webhook (webhook_id) ON DELETE CASCADE,
    failures         integer NOT NULL DEFAULT 0, -- in a row
    failing_since    timestamptz,
    next_try_at      timestamptz NOT NULL DEFAULT now(),
    claim_token      uuid,
    claim_expires_at timestamptz,
    CONSTRAINT webhook_standing_claim CHECK ((claim_token IS NULL) = (claim_expires_at IS NULL))
) WITH (fillfactor = 50);

-- A UUIDv7 (RFC 9562), which PostgreSQL has since version 18: random bytes, the milliseconds before them, then the
-- version. The bits of its variant are those of the random UUID.
CREATE FUNCTION new_uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid
$$;

-- One event on its way to one endpoint. A test has no event and no message: its message_id is all zeros.
-- What the server answered may repeat what it was sent, so it is sealed, under webhook_delivery.answer.
CREATE TABLE webhook_delivery (
    tenant_id       uuid NOT NULL,
    message_id      uuid NOT NULL,
    delivery_id     uuid NOT NULL DEFAULT new_uuid7(),
    webhook_id      uuid NOT NULL,
    event_id        uuid,
    kind            text NOT NULL,
    happened_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    state           text NOT NULL DEFAULT 'pending',
    attempts        smallint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    attempted_at    timestamptz,
    result          text,
    status          smallint,
    milliseconds    integer,
    sealed_answer   bytea,
    PRIMARY KEY (tenant_id, message_id, delivery_id),
    CONSTRAINT webhook_delivery_state_known CHECK (state IN ('pending', 'delivered', 'failed')),
    CONSTRAINT webhook_delivery_final_is_finished CHECK ((state = 'pending') = (finished_at IS NULL)),
    CONSTRAINT webhook_delivery_answer_is_sealed CHECK (get_byte(sealed_answer, 0) = 225)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX webhook_delivery_due ON webhook_delivery (webhook_id, next_attempt_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_of_webhook ON webhook_delivery (webhook_id, delivery_id);
CREATE INDEX webhook_delivery_finished ON webhook_delivery (finished_at) WHERE state <> 'pending';

-- Whether what is about the same message, and happened earlier, has not arrived at the endpoint yet.
CREATE FUNCTION is_behind_another(later webhook_delivery) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    RETURN EXISTS (
        SELECT FROM webhook_delivery AS earlier
        WHERE earlier.tenant_id = later.tenant_id AND earlier.message_id = later.message_id
          AND earlier.webhook_id = later.webhook_id AND earlier.state = 'pending'
          AND (earlier.happened_at, earlier.delivery_id) < (later.happened_at, later.delivery_id));

GRANT SELECT, INSERT, UPDATE, DELETE ON webhook, webhook_standing, webhook_delivery
    TO email_gateway_service, email_gateway_tenant;

-- Rows of tenants stand under row-level security where it is on.
DO $$
BEGIN
    IF to_regprocedure('guard_tenant_rows(regclass)') IS NOT NULL THEN
        PERFORM guard_tenant_rows('webhook'), guard_tenant_rows('webhook_standing'), guard_tenant_rows('webhook_delivery');
    END IF;
END $$;

-- Deliveries are made by the statement that makes the events, whoever writes it. Where nobody has a webhook that
-- costs one look into a small table for each statement, and a statement has the events of many messages.
CREATE FUNCTION queue_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM webhook WHERE webhook.status = 'enabled') THEN
        INSERT INTO webhook_delivery (tenant_id, message_id, webhook_id, event_id, kind, happened_at)
        SELECT made.tenant_id, made.message_id, webhook.webhook_id, made.event_id, made.kind, made.at
        FROM made JOIN webhook ON webhook.tenant_id = made.tenant_id AND made.kind = ANY (webhook.kinds)
        WHERE webhook.status = 'enabled';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER webhooks_queued AFTER INSERT ON event
    REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION queue_webhooks();
