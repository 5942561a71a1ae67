-- name: list_attachments
-- What is known of a message's files without opening them; a message without files is one row of nothing.
SELECT message.tenant_id, message.message_id, attachment_id, attachment.size, attachment.sealed_summary
FROM message LEFT JOIN attachment USING (tenant_id, message_id)
WHERE message.tenant_id = $1 AND message.message_id = $2
ORDER BY position

-- name: find_attachment
-- The same of one file.
SELECT tenant_id, message_id, attachment_id, size, sealed_summary
FROM attachment WHERE tenant_id = $1 AND message_id = $2 AND attachment_id = $3

-- name: find_granted
-- One file for the bearer of a link, as long as the API key that it was made for may still be used.
SELECT attachment.tenant_id, message_id, attachment_id, size, sealed_summary
FROM attachment JOIN api_key USING (tenant_id) JOIN tenant USING (tenant_id)
WHERE attachment.tenant_id = $1 AND message_id = $2 AND attachment_id = $3
  AND api_key_id = $4 AND revoked_at IS NULL AND coalesce(expires_at > now(), true) AND suspended_at IS NULL
