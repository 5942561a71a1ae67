-- Running totals, so that what people and scrapers look at every few seconds walks over no table that grows. Only
-- additions: processes of the release before are counted too, since the tables count for whoever writes them.

-- What a transaction changed, one row for each tenant and state of a statement: no two transactions meet in a row.
CREATE TABLE tally (
    tenant_id uuid NOT NULL,
    state     text NOT NULL, -- of deliveries; 'accepted' is what messages promised
    amount    bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- What upkeep folded them into.
CREATE TABLE running_total (
    tenant_id uuid NOT NULL,
    state     text NOT NULL,
    amount    bigint NOT NULL,
    PRIMARY KEY (tenant_id, state)
) WITH (fillfactor = 50);

GRANT SELECT, INSERT, UPDATE, DELETE ON tally TO email_gateway_service;
GRANT SELECT, INSERT, UPDATE ON running_total TO email_gateway_service;

CREATE FUNCTION tally_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tally (tenant_id, state, amount)
    SELECT tenant_id, 'accepted', sum(delivery_count) * CASE WHEN TG_OP = 'DELETE' THEN -1 ELSE 1 END
    FROM changed GROUP BY tenant_id;
    RETURN NULL;
END $$;

CREATE FUNCTION tally_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- Most updates change no state: a phase, a lease.
        INSERT INTO tally (tenant_id, state, amount)
        SELECT tenant_id, state, sum(amount)
        FROM (SELECT tenant_id, state, 1 AS amount FROM fresh
              UNION ALL SELECT tenant_id, state, -1 FROM stale) AS moved
        GROUP BY tenant_id, state HAVING sum(amount) <> 0;
    ELSE
        INSERT INTO tally (tenant_id, state, amount)
        SELECT tenant_id, state, count(*) * CASE WHEN TG_OP = 'DELETE' THEN -1 ELSE 1 END
        FROM changed GROUP BY tenant_id, state;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER tally_inserted AFTER INSERT ON message
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tally_messages();
CREATE TRIGGER tally_deleted AFTER DELETE ON message
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tally_messages();
CREATE TRIGGER tally_inserted AFTER INSERT ON delivery
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tally_deliveries();
CREATE TRIGGER tally_updated AFTER UPDATE ON delivery
    REFERENCING OLD TABLE AS stale NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION tally_deliveries();
CREATE TRIGGER tally_deleted AFTER DELETE ON delivery
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tally_deliveries();

-- What is there already. Since the triggers came first nobody else can write until this commits.
INSERT INTO running_total (tenant_id, state, amount)
SELECT tenant_id, state, count(*) FROM delivery GROUP BY tenant_id, state
UNION ALL
SELECT tenant_id, 'accepted', sum(delivery_count) FROM message GROUP BY tenant_id;

-- The same columns as `conservation`, which stays the auditor's proof and walks over both tables.
CREATE VIEW running_conservation AS
WITH amounts AS (
    SELECT tenant_id, state, amount FROM running_total
    UNION ALL SELECT tenant_id, state, amount FROM tally
    UNION ALL
    SELECT tenant_id, state, amount FROM daily_total CROSS JOIN LATERAL (VALUES
        ('accepted', accepted), ('delivered', delivered), ('kept', kept), ('bounced', bounced), ('expired', expired),
        ('suppressed', suppressed), ('cancelled', cancelled), ('dead', dead)) AS removed (state, amount)
), summed AS (
    SELECT tenant.tenant_id,
           (coalesce(sum(amount) FILTER (WHERE state = 'accepted'), 0))::bigint   AS accepted,
           (coalesce(sum(amount) FILTER (WHERE state = 'delivered'), 0))::bigint  AS delivered,
           (coalesce(sum(amount) FILTER (WHERE state = 'bounced'), 0))::bigint    AS bounced,
           (coalesce(sum(amount) FILTER (WHERE state = 'expired'), 0))::bigint    AS expired,
           (coalesce(sum(amount) FILTER (WHERE state = 'suppressed'), 0))::bigint AS suppressed,
           (coalesce(sum(amount) FILTER (WHERE state = 'cancelled'), 0))::bigint  AS cancelled,
           (coalesce(sum(amount) FILTER (WHERE state = 'dead'), 0))::bigint       AS dead,
           (coalesce(sum(amount) FILTER (WHERE state = 'queued'), 0))::bigint     AS queued,
           (coalesce(sum(amount) FILTER (WHERE state = 'sending'), 0))::bigint    AS sending,
           (coalesce(sum(amount) FILTER (WHERE state = 'kept'), 0))::bigint       AS kept,
           (coalesce(sum(amount) FILTER (WHERE state <> 'accepted'), 0))::bigint  AS deliveries
    FROM tenant LEFT JOIN amounts USING (tenant_id)
    GROUP BY tenant.tenant_id
)
SELECT tenant_id, accepted, delivered, bounced, expired, suppressed, cancelled, dead, queued, sending,
       accepted - deliveries AS difference, kept
FROM summed;
GRANT SELECT ON running_conservation TO email_gateway_service;
