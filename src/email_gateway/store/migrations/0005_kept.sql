-- A word of its own for mail that a gateway keeps instead of sending it: it is final, and it is counted.
-- Only additions: a process of the release before reads the view by its columns' names and finds them all.

ALTER TABLE daily_total ADD COLUMN kept bigint NOT NULL DEFAULT 0;

-- The contract's second line: accepted = the sum of the states, for every tenant, at every instant.
-- `kept` stands last, since a view that is replaced may only gain columns at its end.
CREATE OR REPLACE VIEW conservation AS
WITH counted AS (
    SELECT tenant_id,
           count(*) FILTER (WHERE state = 'delivered')  AS delivered,
           count(*) FILTER (WHERE state = 'kept')       AS kept,
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
    SELECT tenant_id, sum(accepted) AS accepted, sum(delivered) AS delivered, sum(kept) AS kept, sum(bounced) AS bounced,
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
           coalesce(counted.sending, 0)                                                   AS sending,
           (coalesce(counted.kept, 0) + coalesce(removed.kept, 0))::bigint                AS kept
    FROM tenant
    LEFT JOIN counted USING (tenant_id)
    LEFT JOIN accepted USING (tenant_id)
    LEFT JOIN removed USING (tenant_id)
)
SELECT tenant_id, accepted, delivered, bounced, expired, suppressed, cancelled, dead, queued, sending,
       accepted - (delivered + kept + bounced + expired + suppressed + cancelled + dead + queued + sending) AS difference,
       kept
FROM summed;
