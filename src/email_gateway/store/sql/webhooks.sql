-- name: add_webhook
-- A new webhook; no row when the tenant has as many as it may.
INSERT INTO webhook (tenant_id, webhook_id, host, sealed_endpoint, sealed_secret, events, include_personal)
SELECT $1, $2, $3, $4, $5, $6, $7 WHERE (SELECT count(*) FROM webhook WHERE tenant_id = $1) < $8
RETURNING webhook_id

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
-- Change what is given and leave the rest. Who enables it, or gives it another endpoint, begins anew.
UPDATE webhook
SET host = coalesce($3, host), sealed_endpoint = coalesce($4, sealed_endpoint), events = coalesce($5, events),
    status = coalesce($6, status),
    disabled_by = CASE coalesce($6, status) WHEN 'disabled' THEN coalesce(disabled_by, 'caller') END,
    include_personal = coalesce($7, include_personal)
WHERE tenant_id = $1 AND webhook_id = $2
RETURNING webhook_id

-- name: rotate_secret
-- Another secret; the one before signs beside it for a while.
UPDATE webhook SET sealed_secret = $3, sealed_old_secret = $4, old_secret_until = now() + $5::interval
WHERE tenant_id = $1 AND webhook_id = $2 AND sealed_secret = $6
RETURNING webhook_id

-- name: delete_webhook
-- A webhook, and with it what was yet to be sent there.
DELETE FROM webhook WHERE tenant_id = $1 AND webhook_id = $2 RETURNING webhook_id
