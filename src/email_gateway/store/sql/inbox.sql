-- name: add_mail
-- Keep one mail of the development inbox, sealed.
INSERT INTO inbox_mail (tenant_id, inbox_id, message_id, recipients, sealed_raw, size)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: find_mail
-- One mail with its sealed octets.
SELECT tenant_id, inbox_id, message_id, recipients, sealed_raw, size
FROM inbox_mail WHERE tenant_id = $1 AND inbox_id = $2

-- name: list_mails
-- One page of a tenant's inbox towards older mails, without the mails themselves.
SELECT tenant_id, inbox_id, message_id, recipients, size, created_at
FROM inbox_mail WHERE tenant_id = $1 AND ($2::uuid IS NULL OR inbox_id < $2)
ORDER BY inbox_id DESC LIMIT $3
