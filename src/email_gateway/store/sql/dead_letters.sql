-- name: list_dead
-- One page of dead deliveries, the newest messages first.
SELECT tenant_id, tenant.name AS tenant, message_id, recipient, domain, attempts, reason, last_code, last_enhanced,
       delivery.created_at, finished_at
FROM delivery JOIN tenant USING (tenant_id)
WHERE state = 'dead'
  AND ($1::uuid IS NULL OR tenant_id = $1)
  AND ($2::text IS NULL OR reason = $2)
  AND ($3::text IS NULL OR domain = $3)
  AND ($4::timestamptz IS NULL OR finished_at < $4)
  AND ($5::uuid IS NULL OR (message_id, recipient) < ($5, $6::smallint))
ORDER BY message_id DESC, recipient DESC LIMIT $7

-- name: find_dead
-- One dead delivery. The partial index of dead deliveries is small; message ids are unique in practice.
SELECT tenant_id, tenant.name AS tenant, message_id, recipient, domain, attempts, reason, last_code, last_enhanced,
       delivery.created_at, finished_at
FROM delivery JOIN tenant USING (tenant_id)
WHERE state = 'dead' AND message_id = $1 AND recipient = $2

-- name: count_dead
-- How many deliveries are dead, by why and where, the largest groups first; and when that was.
SELECT reason, domain, count(*) AS deliveries, min(finished_at) AS oldest_at, max(finished_at) AS newest_at, now() AS at
FROM delivery
WHERE state = 'dead'
  AND ($1::uuid IS NULL OR tenant_id = $1)
  AND ($2::text IS NULL OR reason = $2)
  AND ($3::text IS NULL OR domain = $3)
  AND ($4::timestamptz IS NULL OR finished_at < $4)
GROUP BY GROUPING SETS ((), (reason), (domain))
ORDER BY grouping(reason, domain) DESC, deliveries DESC

-- name: retry_dead
-- Put dead deliveries back in the queue: those of a filter, of one message, or one; $9 is who asked. The message gets time to live again, or the next failure
-- would kill it at once. The rows are locked in the order of their key: no deadlock between two of these.
WITH chosen AS (
    SELECT tenant_id, message_id, recipient FROM delivery
    WHERE state = 'dead'
      AND ($1::uuid IS NULL OR tenant_id = $1)
      AND ($2::text IS NULL OR reason = $2)
      AND ($3::text IS NULL OR domain = $3)
      AND ($4::timestamptz IS NULL OR finished_at < $4)
      AND ($5::uuid IS NULL OR message_id = $5 AND recipient = coalesce($6::smallint, recipient))
    ORDER BY tenant_id, message_id, recipient LIMIT $7
    FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE delivery SET state = 'queued', next_attempt_at = now(), finished_at = NULL, crashes = 0
    FROM chosen
    WHERE delivery.tenant_id = chosen.tenant_id AND delivery.message_id = chosen.message_id
      AND delivery.recipient = chosen.recipient
    RETURNING delivery.tenant_id, delivery.message_id, delivery.recipient
), extended AS (
    UPDATE message SET expires_at = greatest(expires_at, now() + $8::interval)
    FROM (SELECT DISTINCT tenant_id, message_id FROM changed) AS touched
    WHERE message.tenant_id = touched.tenant_id AND message.message_id = touched.message_id
), events AS (
    INSERT INTO event (tenant_id, message_id, recipient, kind, reason)
    SELECT tenant_id, message_id, recipient, 'retried', $9 FROM changed
)
SELECT count(*) AS changed FROM changed

-- name: discard_dead
-- Give dead deliveries up: they end as cancelled, and stay countable.
WITH chosen AS (
    SELECT tenant_id, message_id, recipient FROM delivery
    WHERE state = 'dead'
      AND ($1::uuid IS NULL OR tenant_id = $1)
      AND ($2::text IS NULL OR reason = $2)
      AND ($3::text IS NULL OR domain = $3)
      AND ($4::timestamptz IS NULL OR finished_at < $4)
      AND ($5::uuid IS NULL OR (message_id = $5 AND recipient = $6::smallint))
    ORDER BY tenant_id, message_id, recipient LIMIT $7
    FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE delivery SET state = 'cancelled', finished_at = now()
    FROM chosen
    WHERE delivery.tenant_id = chosen.tenant_id AND delivery.message_id = chosen.message_id
      AND delivery.recipient = chosen.recipient
    RETURNING delivery.tenant_id, delivery.message_id, delivery.recipient
), events AS (
    INSERT INTO event (tenant_id, message_id, recipient, kind, reason)
    SELECT tenant_id, message_id, recipient, 'discarded', 'operator' FROM changed
)
SELECT count(*) AS changed FROM changed

-- name: find_message
-- Whether there is such a message of the tenant.
SELECT FROM message WHERE tenant_id = $1 AND message_id = $2
