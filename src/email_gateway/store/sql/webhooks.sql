-- name: add_webhook
-- A new webhook; no row when the tenant has as many as it may.
WITH added AS (
    INSERT INTO webhook (tenant_id, webhook_id, host, sealed_endpoint, sealed_secret, events, kinds, include_personal)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE (SELECT count(*) FROM webhook WHERE tenant_id = $1) < $9
    RETURNING tenant_id, webhook_id
)
INSERT INTO webhook_standing (tenant_id, webhook_id) SELECT tenant_id, webhook_id FROM added RETURNING webhook_id

-- name: get_webhook
-- A webhook of the tenant.
SELECT tenant_id, webhook_id, host, sealed_endpoint, sealed_secret, sealed_old_secret, old_secret_until, events, status,
       disabled_by, include_personal, created_at
FROM webhook WHERE tenant_id = $1 AND webhook_id = $2

-- name: list_webhooks_after
-- One page towards older webhooks; ids are ordered by time.
SELECT tenant_id, webhook_id, host, sealed_endpoint, sealed_secret, sealed_old_secret, old_secret_until, events, status,
       disabled_by, include_personal, created_at
FROM webhook WHERE tenant_id = $1 AND ($2::uuid IS NULL OR webhook_id < $2)
ORDER BY webhook_id DESC LIMIT $3

-- name: list_webhooks_before
-- One page towards newer webhooks; the caller turns it round.
SELECT tenant_id, webhook_id, host, sealed_endpoint, sealed_secret, sealed_old_secret, old_secret_until, events, status,
       disabled_by, include_personal, created_at
FROM webhook WHERE tenant_id = $1 AND webhook_id > $2
ORDER BY webhook_id ASC LIMIT $3

-- name: update_webhook
-- Change what is given and leave the rest. Who enables it, or gives it another endpoint, has it tried anew, at once.
WITH updated AS (
    UPDATE webhook
    SET host = coalesce($3, host), sealed_endpoint = coalesce($4, sealed_endpoint), events = coalesce($5, events),
        kinds = coalesce($6, kinds), status = coalesce($7, status),
        disabled_by = CASE coalesce($7, status) WHEN 'disabled' THEN coalesce(disabled_by, 'caller') END,
        include_personal = coalesce($8, include_personal)
    WHERE tenant_id = $1 AND webhook_id = $2
    RETURNING webhook_id
), anew AS (
    UPDATE webhook_standing SET failures = 0, failing_since = NULL, next_try_at = now()
    FROM updated WHERE webhook_standing.webhook_id = updated.webhook_id AND ($3::text IS NOT NULL OR $7::text = 'enabled')
), due AS (
    UPDATE webhook_delivery SET next_attempt_at = now()
    FROM updated WHERE webhook_delivery.webhook_id = updated.webhook_id AND state = 'pending'
      AND next_attempt_at > now() AND ($3::text IS NOT NULL OR $7::text = 'enabled')
)
SELECT webhook_id FROM updated

-- name: rotate_secret
-- Another secret; the one before signs beside it for a while.
UPDATE webhook SET sealed_secret = $3, sealed_old_secret = $4, old_secret_until = now() + $5::interval
WHERE tenant_id = $1 AND webhook_id = $2 AND sealed_secret = $6
RETURNING webhook_id

-- name: delete_webhook
-- A webhook, and what was yet to be sent there; what was sent is forgotten by its age.
WITH deleted AS (
    DELETE FROM webhook WHERE tenant_id = $1 AND webhook_id = $2 RETURNING webhook_id
), dropped AS (
    DELETE FROM webhook_delivery USING deleted
    WHERE webhook_delivery.webhook_id = deleted.webhook_id AND state = 'pending'
)
SELECT webhook_id FROM deleted

-- name: list_standings
-- Every webhook as operators see it, those that fail first; what waits is counted up to so many.
SELECT tenant.name AS tenant, webhook.tenant_id, webhook_id, host, events, status, disabled_by, failures, failing_since,
       next_try_at, waiting.number AS waiting, last.attempted_at AS last_attempt_at, last.result AS last_result
FROM webhook JOIN tenant USING (tenant_id) JOIN webhook_standing USING (tenant_id, webhook_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS number FROM (
        SELECT FROM webhook_delivery
        WHERE webhook_delivery.webhook_id = webhook.webhook_id AND state = 'pending' LIMIT $1) AS counted) AS waiting
LEFT JOIN LATERAL (
    SELECT attempted_at, result FROM webhook_delivery
    WHERE webhook_delivery.webhook_id = webhook.webhook_id AND attempted_at IS NOT NULL
    ORDER BY delivery_id DESC LIMIT 1) AS last ON true
WHERE $2::uuid IS NULL OR webhook_id = $2
ORDER BY failing_since NULLS LAST, tenant.name, webhook_id
