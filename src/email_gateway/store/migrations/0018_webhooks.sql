-- Webhooks: where a tenant's events are sent. Only additions: a process of the release before makes events as ever, and
-- the trigger below makes deliveries of them all the same.

-- An endpoint may hold a token, so it is sealed, like the secrets; `host` names it to operators and in the log.
-- An old secret signs beside the new one for a while, so that receivers can change it without a gap.
CREATE TABLE webhook (
    tenant_id         uuid NOT NULL REFERENCES tenant,
    webhook_id        uuid NOT NULL,
    host              text NOT NULL,
    sealed_endpoint   bytea NOT NULL,
    sealed_secret     bytea NOT NULL,
    sealed_old_secret bytea,
    old_secret_until  timestamptz,
    events            text[] NOT NULL,
    status            text NOT NULL DEFAULT 'enabled',
    disabled_by       text,
    include_personal  boolean NOT NULL DEFAULT false,
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, webhook_id),
    CONSTRAINT webhook_id_unique UNIQUE (webhook_id),
    CONSTRAINT webhook_status_known CHECK (status IN ('enabled', 'disabled')),
    CONSTRAINT webhook_disabled_by_somebody CHECK ((status = 'disabled') = (disabled_by IS NOT NULL)),
    CONSTRAINT webhook_has_events CHECK (cardinality(events) > 0),
    CONSTRAINT webhook_is_sealed CHECK (get_byte(sealed_endpoint, 0) = 225 AND get_byte(sealed_secret, 0) = 225
                                        AND get_byte(sealed_old_secret, 0) = 225),
    CONSTRAINT webhook_old_secret_ends CHECK ((sealed_old_secret IS NULL) = (old_secret_until IS NULL))
);

GRANT SELECT, INSERT, UPDATE, DELETE ON webhook TO email_gateway_service;
GRANT SELECT ON webhook TO email_gateway_tenant;
