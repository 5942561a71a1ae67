-- name: add_audit
-- One act, in the transaction of what it did: an act without its row does not happen.
INSERT INTO audit (actor, action, tenant_id, subject, reason) VALUES ($1, $2, $3, $4, $5)

-- name: list_audit
-- The newest acts, older than a moment if one is given.
SELECT audit_id, at, actor, action, tenant_id, subject, reason FROM audit
WHERE ($1::timestamptz IS NULL OR at < $1)
ORDER BY at DESC LIMIT $2
