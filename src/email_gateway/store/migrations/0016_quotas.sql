-- What a tenant may send, where an operator chose otherwise than the settings, and what it has sent by day. Only
-- additions: a process of the release before accepts without asking. What its worker folds is missing in the use
-- of that day: until the last of them is gone, quotas count too little.

-- NULL: as the settings have it. 0: no limit.
ALTER TABLE tenant ADD COLUMN key_rate integer CONSTRAINT tenant_key_rate_is_natural CHECK (key_rate >= 0);
ALTER TABLE tenant ADD COLUMN key_burst integer CONSTRAINT tenant_key_burst_is_natural CHECK (key_burst >= 0);
ALTER TABLE tenant ADD COLUMN daily_quota bigint CONSTRAINT tenant_daily_quota_is_natural CHECK (daily_quota >= 0);
ALTER TABLE tenant ADD COLUMN monthly_quota bigint CONSTRAINT tenant_monthly_quota_is_natural CHECK (monthly_quota >= 0);

-- Recipients of accepted messages by day of UTC: what upkeep folded, and of what it has not, the day beside each amount.
CREATE TABLE daily_use (
    tenant_id  uuid NOT NULL,
    day        date NOT NULL,
    recipients bigint NOT NULL,
    PRIMARY KEY (tenant_id, day)
) WITH (fillfactor = 50);
ALTER TABLE tally ADD COLUMN day date; -- of what was accepted; what retention removes was used all the same

CREATE OR REPLACE FUNCTION tally_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tally (tenant_id, state, amount, day)
    SELECT tenant_id, 'accepted', sum(delivery_count) * CASE WHEN TG_OP = 'DELETE' THEN -1 ELSE 1 END,
           CASE WHEN TG_OP = 'INSERT' THEN (now() AT TIME ZONE 'UTC')::date END
    FROM changed GROUP BY tenant_id;
    RETURN NULL;
END $$;

GRANT SELECT, INSERT, UPDATE ON daily_use TO email_gateway_service;
GRANT SELECT ON daily_use, tally TO email_gateway_tenant;

-- Where tables are guarded by row-level security, this one is too.
DO $$
BEGIN
    IF to_regproc('guard_tenant_rows') IS NOT NULL THEN
        PERFORM guard_tenant_rows('daily_use');
    END IF;
END $$;
