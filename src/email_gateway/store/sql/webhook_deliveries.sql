-- name: claim_webhooks
-- Take up to $1 endpoints that something is due for and that nobody holds. One step of the index for each endpoint
-- that anything waits for, so that a poll costs nothing where nothing does. Those that fail are taken apart from the others,
-- each when its time has come.
WITH RECURSIVE waiting AS (
    (SELECT webhook_id FROM webhook_delivery WHERE state = 'pending' ORDER BY webhook_id LIMIT 1)
    UNION ALL
    SELECT next.webhook_id FROM waiting CROSS JOIN LATERAL (
        SELECT webhook_id FROM webhook_delivery
        WHERE state = 'pending' AND webhook_delivery.webhook_id > waiting.webhook_id
        ORDER BY webhook_id LIMIT 1) AS next
), free AS (
    SELECT webhook_id FROM webhook_standing JOIN webhook USING (webhook_id) JOIN waiting USING (webhook_id)
    WHERE webhook.status = 'enabled' AND next_try_at <= now() AND coalesce(claim_expires_at <= now(), true)
      AND (failures > 0) = $3
      AND EXISTS (SELECT FROM webhook_delivery AS due
                  WHERE due.webhook_id = webhook_standing.webhook_id AND state = 'pending' AND next_attempt_at <= now()
                    AND NOT is_behind_another(due))
    ORDER BY next_try_at LIMIT $1
    FOR UPDATE OF webhook_standing SKIP LOCKED
), claimed AS (
    UPDATE webhook_standing SET claim_token = gen_random_uuid(), claim_expires_at = now() + $2::interval
    FROM free WHERE webhook_standing.webhook_id = free.webhook_id
    RETURNING webhook_standing.webhook_id, claim_token, failures, failing_since
)
SELECT webhook.tenant_id, webhook_id, claim_token, failures, failing_since, host, sealed_endpoint, sealed_secret,
       CASE WHEN old_secret_until > now() THEN sealed_old_secret END AS sealed_old_secret, include_personal
FROM claimed JOIN webhook USING (webhook_id)

-- name: list_due
-- What is due for an endpoint, oldest first, with what a payload says. Of what is about one message only the first
-- that is not done yet: the next follows when it is.
SELECT delivery.delivery_id, delivery.message_id, delivery.kind, delivery.happened_at, delivery.attempts, delivery.created_at,
       now() AS now, event.event_id, event.recipient, event.reason, event.code, event.enhanced,
       CASE WHEN $4 THEN event.sealed_reply END AS sealed_reply, message.created_at AS message_created_at,
       CASE WHEN $4 AND message.sealed_summary IS NULL THEN message.sealed_content END AS sealed_content,
       CASE WHEN $4 THEN message.sealed_summary END AS sealed_summary,
       ARRAY(SELECT name FROM message_tag AS tag
             WHERE tag.tenant_id = $1 AND tag.message_id = delivery.message_id ORDER BY name) AS tag_names,
       ARRAY(SELECT value FROM message_tag AS tag
             WHERE tag.tenant_id = $1 AND tag.message_id = delivery.message_id ORDER BY name) AS tag_values
FROM (
    SELECT * FROM webhook_delivery
    WHERE webhook_id = $2 AND state = 'pending' AND next_attempt_at <= now() AND NOT is_behind_another(webhook_delivery)
    ORDER BY next_attempt_at LIMIT $3) AS delivery
LEFT JOIN event ON event.tenant_id = $1 AND event.message_id = delivery.message_id AND event.event_id = delivery.event_id
LEFT JOIN message ON message.tenant_id = $1 AND message.message_id = delivery.message_id
ORDER BY delivery.next_attempt_at

-- name: finish_deliveries
-- Write what attempts came to and let go of the endpoint, fenced by its claim: who lost it writes nothing. A success
-- ends a row of failures; one that has lasted too long ($12) disables the webhook.
WITH held AS (
    UPDATE webhook_standing
    SET claim_token = NULL, claim_expires_at = NULL,
        failures = CASE WHEN $10 THEN 0 ELSE failures + 1 END,
        failing_since = CASE WHEN NOT $10 THEN coalesce(failing_since, now()) END,
        next_try_at = CASE WHEN $10 THEN now() ELSE now() + $11::interval END
    WHERE webhook_id = $1 AND claim_token = $2
    RETURNING webhook_id, failing_since
), ended AS (
    UPDATE webhook SET status = 'disabled', disabled_by = 'failures'
    FROM held WHERE webhook.webhook_id = held.webhook_id AND held.failing_since < now() - $12::interval
    RETURNING webhook.webhook_id
), written AS (
    UPDATE webhook_delivery
    SET state = fresh.state, attempts = attempts + 1, attempted_at = now(),
        next_attempt_at = now() + coalesce(delay, interval '0'),
        finished_at = CASE WHEN fresh.state <> 'pending' THEN now() END,
        result = fresh.result, status = fresh.status, milliseconds = fresh.milliseconds, sealed_answer = answer
    FROM held, unnest($3::uuid[], $4::uuid[], $5::text[], $6::interval[], $7::text[], $8::smallint[], $9::int[], $13::bytea[])
         AS fresh (message_id, delivery_id, state, delay, result, status, milliseconds, answer)
    WHERE webhook_delivery.tenant_id = $14 AND webhook_delivery.message_id = fresh.message_id
      AND webhook_delivery.delivery_id = fresh.delivery_id AND webhook_delivery.state = 'pending'
)
SELECT EXISTS (SELECT FROM held) AS is_held, EXISTS (SELECT FROM ended) AS is_disabled

-- name: release_webhook
-- Let go of an endpoint that nothing was sent to.
UPDATE webhook_standing SET claim_token = NULL, claim_expires_at = NULL WHERE webhook_id = $1 AND claim_token = $2

-- name: add_test
-- A delivery that is a test: about no event and no message.
INSERT INTO webhook_delivery (tenant_id, message_id, webhook_id, kind)
SELECT tenant_id, '00000000-0000-0000-0000-000000000000', webhook_id, 'test'
FROM webhook WHERE webhook_id = $1 AND status = 'enabled'
RETURNING delivery_id

-- name: replay
-- Send again what was sent before: one delivery, or those of a span of time, all or the failed ones.
WITH replayed AS (
    UPDATE webhook_delivery SET state = 'pending', next_attempt_at = now(), finished_at = NULL, created_at = now(), attempts = 0
    WHERE tenant_id = $1 AND webhook_id = $2 AND state <> 'pending' AND ($3::uuid IS NULL OR delivery_id = $3)
      AND ($4::timestamptz IS NULL OR happened_at >= $4) AND ($5::timestamptz IS NULL OR happened_at < $5)
      AND (NOT $6 OR state = 'failed')
    RETURNING 1
)
SELECT count(*) AS number FROM replayed

-- name: list_deliveries
-- What was sent to an endpoint, or waits for it: the newest first, older than the cursor; or one.
SELECT tenant_id, message_id, delivery_id, kind, state, attempts, happened_at, attempted_at, next_attempt_at, result, status,
       milliseconds, sealed_answer
FROM webhook_delivery
WHERE tenant_id = $1 AND webhook_id = $2 AND ($3::uuid IS NULL OR delivery_id = $3)
  AND ($4::uuid IS NULL OR delivery_id < $4)
ORDER BY delivery_id DESC LIMIT $5

-- name: give_up
-- End what has waited for an endpoint that was disabled, or that nobody could reach, for longer than is retried.
UPDATE webhook_delivery SET state = 'failed', finished_at = now(), result = coalesce(result, 'not_sent')
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM webhook_delivery WHERE state = 'pending' AND created_at < now() - $1::interval
    LIMIT $2 FOR UPDATE SKIP LOCKED))

-- name: prune
-- Forget what was sent so long ago.
DELETE FROM webhook_delivery WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM webhook_delivery WHERE state <> 'pending' AND finished_at < now() - $1::interval
    LIMIT $2 FOR UPDATE SKIP LOCKED))
