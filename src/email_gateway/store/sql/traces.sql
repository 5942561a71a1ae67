-- name: find_message
-- A message by its id alone: one step of the primary key for each tenant.
SELECT tenant.tenant_id, tenant.name AS tenant, found.*, now() AS now
FROM tenant CROSS JOIN LATERAL (
    SELECT created_at, expires_at, sender_domain, size, attachment_count, on_doubt, traceparent FROM message
    WHERE message.tenant_id = tenant.tenant_id AND message.message_id = $1) AS found

-- name: list_deliveries
-- A message's deliveries with what workers did to them, in the order of the envelope.
SELECT recipient, domain, state, phase, attempts, crashes, doubts, lane, next_attempt_at, claim_expires_at, finished_at,
       reason, last_code, last_enhanced, scheduled_at
FROM delivery WHERE tenant_id = $1 AND message_id = $2 ORDER BY recipient
