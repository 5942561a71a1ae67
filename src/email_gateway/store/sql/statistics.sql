-- name: list_counts
-- Deliveries by state for every tenant, with what contract C2 says must be zero: by the running totals.
SELECT tenant.tenant_id, tenant.name, accepted, queued, sending, delivered, kept, bounced, expired, suppressed, cancelled,
       dead, difference
FROM running_conservation JOIN tenant USING (tenant_id)
ORDER BY accepted DESC, tenant.name

-- name: list_recounts
-- Tenants whose running totals are not what a walk over messages and deliveries finds: by how much they are off.
-- One statement, so that both are of the same instant.
SELECT tenant.name, sum(abs(running.amount - walked.amount))::bigint AS off_by
FROM running_conservation JOIN conservation USING (tenant_id) JOIN tenant USING (tenant_id)
CROSS JOIN LATERAL unnest(
    ARRAY[running_conservation.accepted, running_conservation.queued, running_conservation.sending,
          running_conservation.delivered, running_conservation.kept, running_conservation.bounced,
          running_conservation.expired, running_conservation.suppressed, running_conservation.cancelled,
          running_conservation.dead]) WITH ORDINALITY AS running (amount, place)
JOIN LATERAL unnest(
    ARRAY[conservation.accepted, conservation.queued, conservation.sending, conservation.delivered, conservation.kept,
          conservation.bounced, conservation.expired, conservation.suppressed, conservation.cancelled,
          conservation.dead]) WITH ORDINALITY AS walked (amount, place) USING (place)
GROUP BY tenant.name HAVING sum(abs(running.amount - walked.amount)) > 0
ORDER BY tenant.name

-- name: fold_tallies
-- Fold differences into the running totals, and what was accepted into the use of its day, in one order so that two
-- workers meet without a deadlock; rows that another one is folding are passed over.
WITH taken AS (
    DELETE FROM tally WHERE ctid = ANY (ARRAY(SELECT ctid FROM tally LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING tenant_id, state, amount, day
), used AS (
    INSERT INTO daily_use AS held (tenant_id, day, recipients)
    SELECT tenant_id, day, sum(amount) FROM taken WHERE day IS NOT NULL GROUP BY tenant_id, day ORDER BY tenant_id, day
    ON CONFLICT (tenant_id, day) DO UPDATE SET recipients = held.recipients + excluded.recipients
)
INSERT INTO running_total AS held (tenant_id, state, amount)
SELECT tenant_id, state, sum(amount) FROM taken GROUP BY tenant_id, state ORDER BY tenant_id, state
ON CONFLICT (tenant_id, state) DO UPDATE SET amount = held.amount + excluded.amount

-- name: list_minutes
-- What happened in each minute of the last hour, oldest first, idle minutes included.
-- Mail that is kept failed to leave. The database's clock makes the minutes; the outer filter lets an index on `at` find the hour.
WITH hour AS (
    SELECT generate_series(date_trunc('minute', now()) - interval '59 minutes', date_trunc('minute', now()),
                           interval '1 minute') AS minute
), facts AS (
    SELECT date_trunc('minute', at) AS minute,
           count(*) FILTER (WHERE kind = 'accepted')                        AS accepted,
           count(*) FILTER (WHERE kind = 'delivered')                       AS delivered,
           count(*) FILTER (WHERE kind IN ('kept', 'bounced', 'expired', 'dead')) AS failed
    FROM event
    WHERE at >= date_trunc('minute', now()) - interval '59 minutes'
      AND kind IN ('accepted', 'delivered', 'kept', 'bounced', 'expired', 'dead')
    GROUP BY 1
)
SELECT hour.minute, coalesce(accepted, 0) AS accepted, coalesce(delivered, 0) AS delivered, coalesce(failed, 0) AS failed
FROM hour LEFT JOIN facts USING (minute)
ORDER BY hour.minute

-- name: list_recent
-- One page of messages of all tenants (or of one), newest first, with the states of their deliveries.
-- Per tenant the primary key gives the newest ids; a state is looked for among $5 of them only,
-- and contents and deliveries are read for the rows that are shown. Of large ones come summaries.
WITH page AS (
    SELECT found.tenant_id, tenant.name, found.message_id
    FROM tenant CROSS JOIN LATERAL (
        SELECT looked.tenant_id, looked.message_id
        FROM (
            SELECT message.tenant_id, message.message_id FROM message
            WHERE message.tenant_id = tenant.tenant_id
              AND message.message_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
            ORDER BY message.message_id DESC LIMIT $5
        ) AS looked
        WHERE $4::text IS NULL OR EXISTS (
            SELECT FROM delivery
            WHERE delivery.tenant_id = looked.tenant_id AND delivery.message_id = looked.message_id
              AND delivery.state = $4)
        ORDER BY looked.message_id DESC LIMIT $1
    ) AS found
    WHERE $3::uuid IS NULL OR tenant.tenant_id = $3
    ORDER BY found.message_id DESC LIMIT $1
)
SELECT page.tenant_id, page.name, page.message_id, message.created_at, message.sender_domain, message.size,
       message.attachment_count,
       CASE WHEN message.sealed_summary IS NULL THEN message.sealed_content END AS sealed_content, message.sealed_summary,
       deliveries.states
FROM page JOIN message USING (tenant_id, message_id)
CROSS JOIN LATERAL (
    SELECT array_agg(delivery.state ORDER BY delivery.recipient) AS states FROM delivery
    WHERE delivery.tenant_id = page.tenant_id AND delivery.message_id = page.message_id
) AS deliveries
ORDER BY page.message_id DESC

-- name: find_name
-- One tenant's name.
SELECT name FROM tenant WHERE tenant_id = $1

-- name: list_arrivals
-- The newest mails of the development inbox, without the mails themselves: one may have 40 MB.
-- Ids are ordered by time, so the primary key gives each tenant's newest.
SELECT newest.tenant_id, tenant.name, newest.inbox_id, newest.message_id, cardinality(newest.recipients) AS recipients,
       newest.size, newest.created_at
FROM tenant CROSS JOIN LATERAL (
    SELECT tenant_id, inbox_id, message_id, recipients, size, created_at FROM inbox_mail
    WHERE inbox_mail.tenant_id = tenant.tenant_id
    ORDER BY inbox_id DESC LIMIT $1
) AS newest
ORDER BY newest.inbox_id DESC LIMIT $1
