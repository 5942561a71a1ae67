-- name: begin_walk
-- A walk begins at the first row, or goes on where it stands if it is about the same key and unfinished.
INSERT INTO key_walk (tenant_id, relation, key_id, after_parent, after_row) VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (tenant_id, relation) DO UPDATE
    SET key_id = excluded.key_id, after_parent = excluded.after_parent, after_row = excluded.after_row,
        moved = 0, skipped = 0, unreadable = 0, begun_at = now(), finished_at = NULL
    WHERE key_walk.key_id <> excluded.key_id OR key_walk.finished_at IS NOT NULL

-- name: find_walk
-- Where a walk stands.
SELECT tenant_id, relation, key_id, after_parent, after_row, moved, skipped, unreadable, finished_at
FROM key_walk WHERE tenant_id = $1 AND relation = $2

-- name: list_walks
-- Walks that are not at their end, then those that reached it lately.
SELECT key_walk.tenant_id, tenant.name, relation, after_parent, moved, skipped, unreadable, begun_at, finished_at
FROM key_walk JOIN tenant USING (tenant_id)
WHERE finished_at IS NULL OR finished_at > now() - $1::interval
ORDER BY finished_at IS NOT NULL, begun_at DESC, tenant.name, relation LIMIT $2

-- name: advance_walk
-- One batch more, in the transaction that wrote it; no row when another command has moved the walk.
UPDATE key_walk SET after_parent = $6, after_row = $7, moved = moved + $8, skipped = skipped + $9,
                    unreadable = unreadable + $10, finished_at = CASE WHEN $11 THEN now() END
WHERE tenant_id = $1 AND relation = $2 AND key_id = $3 AND (after_parent, after_row) = ($4::uuid, $5::uuid)
RETURNING true AS is_advanced

-- name: commit_lazily
-- A batch and the place behind it are lost together or not at all, so no batch need wait for the disk:
-- after a crash the walk goes on from an earlier place. Its end commits as everything else does.
SET LOCAL synchronous_commit = off

-- name: count_message
-- How many rows of the tenant a walk has before it.
SELECT count(*) AS count FROM message WHERE tenant_id = $1 AND message_id > $2

-- name: count_attachment
-- The same of attachments.
SELECT count(*) AS count FROM attachment WHERE tenant_id = $1 AND message_id >= $2

-- name: count_event
-- The same of events; those without a reply are looked at too.
SELECT count(*) AS count FROM event WHERE tenant_id = $1 AND message_id >= $2

-- name: count_inbox_mail
-- The same of the development inbox.
SELECT count(*) AS count FROM inbox_mail WHERE tenant_id = $1 AND inbox_id > $2

-- name: count_dkim_key
-- The same of the keys that sign for domains.
SELECT count(*) AS count FROM dkim_key WHERE tenant_id = $1 AND domain_id >= $2

-- name: count_suppression
-- The same of suppressions.
SELECT count(*) AS count FROM suppression WHERE tenant_id = $1 AND suppression_id > $2

-- name: count_template_version
-- The same of templates.
SELECT count(*) AS count FROM template_version WHERE tenant_id = $1 AND template_id >= $2

-- name: count_webhook
-- The same of webhooks.
SELECT count(*) AS count FROM webhook WHERE tenant_id = $1 AND webhook_id > $2

-- name: count_webhook_delivery
-- The same of what was sent to webhooks; those without an answer are looked at too.
SELECT count(*) AS count FROM webhook_delivery WHERE tenant_id = $1 AND message_id >= $2

-- name: measure_message
-- Where a walk stands among the tenant's rows: the first and the last, and how many are behind it and before
-- it, of each at most so many, since what grows is not counted to its end. The order has the primary key
-- walked: without it the planner may look for rows that lie at the end of the table from its beginning.
SELECT (SELECT message_id FROM message WHERE tenant_id = $1 ORDER BY message_id LIMIT 1) AS first,
       (SELECT message_id FROM message WHERE tenant_id = $1 ORDER BY message_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM (SELECT FROM message WHERE tenant_id = $1 AND message_id <= $2
                             ORDER BY message_id DESC LIMIT $3) AS counted) AS behind,
       (SELECT count(*) FROM (SELECT FROM message WHERE tenant_id = $1 AND message_id > $2
                             ORDER BY message_id LIMIT $3) AS counted) AS ahead

-- name: measure_attachment
-- The same of attachments.
SELECT (SELECT message_id FROM attachment WHERE tenant_id = $1 ORDER BY message_id LIMIT 1) AS first,
       (SELECT message_id FROM attachment WHERE tenant_id = $1 ORDER BY message_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM (SELECT FROM attachment WHERE tenant_id = $1 AND message_id <= $2
                             ORDER BY message_id DESC LIMIT $3) AS counted) AS behind,
       (SELECT count(*) FROM (SELECT FROM attachment WHERE tenant_id = $1 AND message_id > $2
                             ORDER BY message_id LIMIT $3) AS counted) AS ahead

-- name: measure_event
-- The same of events.
SELECT (SELECT message_id FROM event WHERE tenant_id = $1 ORDER BY message_id LIMIT 1) AS first,
       (SELECT message_id FROM event WHERE tenant_id = $1 ORDER BY message_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM (SELECT FROM event WHERE tenant_id = $1 AND message_id <= $2
                             ORDER BY message_id DESC LIMIT $3) AS counted) AS behind,
       (SELECT count(*) FROM (SELECT FROM event WHERE tenant_id = $1 AND message_id > $2
                             ORDER BY message_id LIMIT $3) AS counted) AS ahead

-- name: measure_inbox_mail
-- The same of the development inbox.
SELECT (SELECT inbox_id FROM inbox_mail WHERE tenant_id = $1 ORDER BY inbox_id LIMIT 1) AS first,
       (SELECT inbox_id FROM inbox_mail WHERE tenant_id = $1 ORDER BY inbox_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM (SELECT FROM inbox_mail WHERE tenant_id = $1 AND inbox_id <= $2
                             ORDER BY inbox_id DESC LIMIT $3) AS counted) AS behind,
       (SELECT count(*) FROM (SELECT FROM inbox_mail WHERE tenant_id = $1 AND inbox_id > $2
                             ORDER BY inbox_id LIMIT $3) AS counted) AS ahead

-- name: measure_dkim_key
-- The same of the keys that sign for domains.
SELECT (SELECT domain_id FROM dkim_key WHERE tenant_id = $1 ORDER BY domain_id LIMIT 1) AS first,
       (SELECT domain_id FROM dkim_key WHERE tenant_id = $1 ORDER BY domain_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM (SELECT FROM dkim_key WHERE tenant_id = $1 AND domain_id <= $2
                             ORDER BY domain_id DESC LIMIT $3) AS counted) AS behind,
       (SELECT count(*) FROM (SELECT FROM dkim_key WHERE tenant_id = $1 AND domain_id > $2
                             ORDER BY domain_id LIMIT $3) AS counted) AS ahead

-- name: measure_suppression
-- The same of suppressions.
SELECT (SELECT suppression_id FROM suppression WHERE tenant_id = $1 ORDER BY suppression_id LIMIT 1) AS first,
       (SELECT suppression_id FROM suppression WHERE tenant_id = $1 ORDER BY suppression_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM (SELECT FROM suppression WHERE tenant_id = $1 AND suppression_id <= $2
                             ORDER BY suppression_id DESC LIMIT $3) AS counted) AS behind,
       (SELECT count(*) FROM (SELECT FROM suppression WHERE tenant_id = $1 AND suppression_id > $2
                             ORDER BY suppression_id LIMIT $3) AS counted) AS ahead

-- name: measure_template_version
-- The same of templates.
SELECT (SELECT template_id FROM template_version WHERE tenant_id = $1 ORDER BY template_id LIMIT 1) AS first,
       (SELECT template_id FROM template_version WHERE tenant_id = $1 ORDER BY template_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM (SELECT FROM template_version WHERE tenant_id = $1 AND template_id <= $2
                             ORDER BY template_id DESC LIMIT $3) AS counted) AS behind,
       (SELECT count(*) FROM (SELECT FROM template_version WHERE tenant_id = $1 AND template_id > $2
                             ORDER BY template_id LIMIT $3) AS counted) AS ahead

-- name: measure_webhook
-- The same of webhooks, of which there are few.
SELECT (SELECT webhook_id FROM webhook WHERE tenant_id = $1 ORDER BY webhook_id LIMIT 1) AS first,
       (SELECT webhook_id FROM webhook WHERE tenant_id = $1 ORDER BY webhook_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM (SELECT FROM webhook WHERE tenant_id = $1 AND webhook_id <= $2 LIMIT $3) AS counted) AS behind,
       (SELECT count(*) FROM (SELECT FROM webhook WHERE tenant_id = $1 AND webhook_id > $2 LIMIT $3) AS counted) AS ahead

-- name: measure_webhook_delivery
-- The same of what was sent to webhooks.
SELECT (SELECT message_id FROM webhook_delivery WHERE tenant_id = $1 ORDER BY message_id LIMIT 1) AS first,
       (SELECT message_id FROM webhook_delivery WHERE tenant_id = $1 ORDER BY message_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM (SELECT FROM webhook_delivery WHERE tenant_id = $1 AND message_id <= $2
                             ORDER BY message_id DESC LIMIT $3) AS counted) AS behind,
       (SELECT count(*) FROM (SELECT FROM webhook_delivery WHERE tenant_id = $1 AND message_id > $2
                             ORDER BY message_id LIMIT $3) AS counted) AS ahead

-- name: page_message
-- The next rows in the order of the primary key: at most so many, and none after that with which the
-- values reach so many bytes. So there is one at least, and the walk goes on.
SELECT message_id, message_id, xmin,
       CASE WHEN is_in_pieces(sealed_content) THEN whole_value($1, message_id, message_id, sealed_content)
            ELSE sealed_content END, sealed_tax_id, sealed_summary
FROM (SELECT message_id, xmin, sealed_content, sealed_tax_id, sealed_summary, bytes, sum(bytes) OVER running AS until
      FROM (SELECT message_id, xmin, sealed_content, sealed_tax_id, sealed_summary,
                   CASE WHEN is_in_pieces(sealed_content) THEN size ELSE octet_length(sealed_content) END AS bytes
            FROM message
            WHERE tenant_id = $1 AND message_id >= $2 AND (message_id, message_id) > ($2::uuid, $3::uuid)) AS next
      WINDOW running AS (ORDER BY message_id ROWS UNBOUNDED PRECEDING)
      ORDER BY message_id LIMIT $4) AS page
WHERE until - bytes < $5::bigint ORDER BY message_id

-- name: page_attachment
-- The same of attachments, in the order of their messages.
SELECT message_id, attachment_id, xmin,
       CASE WHEN is_in_pieces(sealed_content) THEN whole_value($1, message_id, attachment_id, sealed_content)
            ELSE sealed_content END, sealed_summary
FROM (SELECT message_id, attachment_id, xmin, sealed_content, sealed_summary, bytes, sum(bytes) OVER running AS until
      FROM (SELECT message_id, attachment_id, xmin, sealed_content, sealed_summary,
                   CASE WHEN is_in_pieces(sealed_content) THEN size ELSE octet_length(sealed_content) END AS bytes
            FROM attachment
            WHERE tenant_id = $1 AND message_id >= $2 AND (message_id, attachment_id) > ($2::uuid, $3::uuid)) AS next
      WINDOW running AS (ORDER BY message_id, attachment_id ROWS UNBOUNDED PRECEDING)
      ORDER BY message_id, attachment_id LIMIT $4) AS page
WHERE until - bytes < $5::bigint ORDER BY message_id, attachment_id

-- name: page_event
-- The same of events. A reply is short, but is measured all the same.
SELECT message_id, event_id, xmin, sealed_reply
FROM (SELECT message_id, event_id, xmin, sealed_reply, sum(coalesce(octet_length(sealed_reply), 0)) OVER running AS bytes
      FROM event
      WHERE tenant_id = $1 AND message_id >= $2 AND (message_id, event_id) > ($2::uuid, $3::uuid)
      WINDOW running AS (ORDER BY message_id, event_id ROWS UNBOUNDED PRECEDING)
      ORDER BY message_id, event_id LIMIT $4) AS page
WHERE bytes - coalesce(octet_length(sealed_reply), 0) < $5::bigint ORDER BY message_id, event_id

-- name: page_inbox_mail
-- The same of the development inbox.
SELECT inbox_id, inbox_id, xmin, sealed_raw
FROM (SELECT inbox_id, xmin, sealed_raw, sum(octet_length(sealed_raw)) OVER running AS bytes
      FROM inbox_mail
      WHERE tenant_id = $1 AND inbox_id >= $2 AND (inbox_id, inbox_id) > ($2::uuid, $3::uuid)
      WINDOW running AS (ORDER BY inbox_id ROWS UNBOUNDED PRECEDING)
      ORDER BY inbox_id LIMIT $4) AS page
WHERE bytes - octet_length(sealed_raw) < $5::bigint ORDER BY inbox_id

-- name: page_dkim_key
-- The same of the keys that sign for domains; those that are retired have no value any more.
SELECT domain_id, dkim_key_id, xmin, sealed_private_key
FROM (SELECT domain_id, dkim_key_id, xmin, sealed_private_key,
             sum(coalesce(octet_length(sealed_private_key), 0)) OVER running AS bytes
      FROM dkim_key
      WHERE tenant_id = $1 AND domain_id >= $2 AND (domain_id, dkim_key_id) > ($2::uuid, $3::uuid)
      WINDOW running AS (ORDER BY domain_id, dkim_key_id ROWS UNBOUNDED PRECEDING)
      ORDER BY domain_id, dkim_key_id LIMIT $4) AS page
WHERE bytes - coalesce(octet_length(sealed_private_key), 0) < $5::bigint ORDER BY domain_id, dkim_key_id

-- name: page_suppression
-- The same of suppressions.
SELECT suppression_id, suppression_id, xmin, sealed_entry
FROM (SELECT suppression_id, xmin, sealed_entry, sum(octet_length(sealed_entry)) OVER running AS bytes
      FROM suppression
      WHERE tenant_id = $1 AND suppression_id >= $2 AND (suppression_id, suppression_id) > ($2::uuid, $3::uuid)
      WINDOW running AS (ORDER BY suppression_id ROWS UNBOUNDED PRECEDING)
      ORDER BY suppression_id LIMIT $4) AS page
WHERE bytes - octet_length(sealed_entry) < $5::bigint ORDER BY suppression_id

-- name: page_template_version
-- The same of templates, in the order of their ids.
SELECT template_id, version_id, xmin, sealed_content
FROM (SELECT template_id, version_id, xmin, sealed_content, sum(octet_length(sealed_content)) OVER running AS bytes
      FROM template_version
      WHERE tenant_id = $1 AND template_id >= $2 AND (template_id, version_id) > ($2::uuid, $3::uuid)
      WINDOW running AS (ORDER BY template_id, version_id ROWS UNBOUNDED PRECEDING)
      ORDER BY template_id, version_id LIMIT $4) AS page
WHERE bytes - octet_length(sealed_content) < $5::bigint ORDER BY template_id, version_id

-- name: page_webhook
-- The same of webhooks, which are short and few.
SELECT webhook_id, webhook_id, xmin, sealed_endpoint, sealed_secret, sealed_old_secret
FROM (SELECT webhook_id, xmin, sealed_endpoint, sealed_secret, sealed_old_secret, bytes, sum(bytes) OVER running AS until
      FROM (SELECT webhook_id, xmin, sealed_endpoint, sealed_secret, sealed_old_secret,
                   octet_length(sealed_endpoint) + octet_length(sealed_secret) AS bytes
            FROM webhook
            WHERE tenant_id = $1 AND webhook_id >= $2 AND (webhook_id, webhook_id) > ($2::uuid, $3::uuid)) AS next
      WINDOW running AS (ORDER BY webhook_id ROWS UNBOUNDED PRECEDING)
      ORDER BY webhook_id LIMIT $4) AS page
WHERE until - bytes < $5::bigint ORDER BY webhook_id

-- name: page_webhook_delivery
-- The same of what was sent to webhooks. An answer's beginning is short, but is measured all the same.
SELECT message_id, delivery_id, xmin, sealed_answer
FROM (SELECT message_id, delivery_id, xmin, sealed_answer,
             sum(coalesce(octet_length(sealed_answer), 0)) OVER running AS bytes
      FROM webhook_delivery
      WHERE tenant_id = $1 AND message_id >= $2 AND (message_id, delivery_id) > ($2::uuid, $3::uuid)
      WINDOW running AS (ORDER BY message_id, delivery_id ROWS UNBOUNDED PRECEDING)
      ORDER BY message_id, delivery_id LIMIT $4) AS page
WHERE bytes - coalesce(octet_length(sealed_answer), 0) < $5::bigint ORDER BY message_id, delivery_id

-- name: replace_message
-- Put values in the place of those that were read. xmin is the transaction that wrote a row: one that
-- was changed meanwhile has another, and stays as it is. A value that was in pieces becomes whole.
-- A function in FROM is spooled, above work_mem into a file; one in a SELECT list hands out row by row.
WITH replaced AS (
    UPDATE message SET sealed_content = coalesce(fresh.content, sealed_content),
                       sealed_tax_id = coalesce(fresh.tax_id, sealed_tax_id),
                       sealed_summary = coalesce(fresh.summary, sealed_summary)
    FROM (SELECT unnest($2::uuid[]) AS parent_id, unnest($3::uuid[]) AS row_id, unnest($4::xid[]) AS version,
                 unnest($5::bytea[]) AS content, unnest($6::bytea[]) AS tax_id, unnest($7::bytea[]) AS summary) AS fresh
    WHERE tenant_id = $1 AND message_id = parent_id AND message_id = row_id AND message.xmin = version
      AND num_nonnulls(fresh.content, fresh.tax_id, fresh.summary) > 0
    RETURNING num_nonnulls(fresh.content, fresh.tax_id, fresh.summary) AS number,
              CASE WHEN octet_length(fresh.content) > 262144 THEN row_id END AS joined
), dropped AS (
    DELETE FROM sealed_piece USING replaced
    WHERE sealed_piece.tenant_id = $1 AND sealed_piece.message_id = joined AND sealed_piece.row_id = joined
)
SELECT coalesce(sum(number), 0) AS number FROM replaced

-- name: replace_attachment
-- The same of attachments.
WITH replaced AS (
    UPDATE attachment SET sealed_content = coalesce(fresh.content, sealed_content),
                          sealed_summary = coalesce(fresh.summary, sealed_summary)
    FROM (SELECT unnest($2::uuid[]) AS parent_id, unnest($3::uuid[]) AS row_id, unnest($4::xid[]) AS version,
                 unnest($5::bytea[]) AS content, unnest($6::bytea[]) AS summary) AS fresh
    WHERE tenant_id = $1 AND message_id = parent_id AND attachment_id = row_id AND attachment.xmin = version
      AND num_nonnulls(fresh.content, fresh.summary) > 0
    RETURNING num_nonnulls(fresh.content, fresh.summary) AS number, parent_id,
              CASE WHEN octet_length(fresh.content) > 262144 THEN row_id END AS joined
), dropped AS (
    DELETE FROM sealed_piece USING replaced
    WHERE sealed_piece.tenant_id = $1 AND sealed_piece.message_id = parent_id AND sealed_piece.row_id = joined
)
SELECT coalesce(sum(number), 0) AS number FROM replaced

-- name: replace_event
-- The same of events.
WITH replaced AS (
    UPDATE event SET sealed_reply = fresh.value
    FROM (SELECT unnest($2::uuid[]) AS parent_id, unnest($3::uuid[]) AS row_id, unnest($4::xid[]) AS version,
                 unnest($5::bytea[]) AS value) AS fresh
    WHERE tenant_id = $1 AND message_id = parent_id AND event_id = row_id AND event.xmin = version
      AND fresh.value IS NOT NULL
    RETURNING 1
)
SELECT count(*) AS number FROM replaced

-- name: replace_inbox_mail
-- The same of the development inbox.
WITH replaced AS (
    UPDATE inbox_mail SET sealed_raw = fresh.value
    FROM (SELECT unnest($2::uuid[]) AS parent_id, unnest($3::uuid[]) AS row_id, unnest($4::xid[]) AS version,
                 unnest($5::bytea[]) AS value) AS fresh
    WHERE tenant_id = $1 AND inbox_id = parent_id AND inbox_id = row_id AND inbox_mail.xmin = version
      AND fresh.value IS NOT NULL
    RETURNING 1
)
SELECT count(*) AS number FROM replaced

-- name: replace_dkim_key
-- The same of the keys that sign for domains. One that was retired meanwhile stays without a value.
WITH replaced AS (
    UPDATE dkim_key SET sealed_private_key = fresh.value
    FROM (SELECT unnest($2::uuid[]) AS parent_id, unnest($3::uuid[]) AS row_id, unnest($4::xid[]) AS version,
                 unnest($5::bytea[]) AS value) AS fresh
    WHERE tenant_id = $1 AND domain_id = parent_id AND dkim_key_id = row_id AND dkim_key.xmin = version
      AND fresh.value IS NOT NULL
    RETURNING 1
)
SELECT count(*) AS number FROM replaced

-- name: replace_template_version
-- The same of templates.
WITH replaced AS (
    UPDATE template_version SET sealed_content = fresh.value
    FROM (SELECT unnest($2::uuid[]) AS parent_id, unnest($3::uuid[]) AS row_id, unnest($4::xid[]) AS version,
                 unnest($5::bytea[]) AS value) AS fresh
    WHERE tenant_id = $1 AND template_id = parent_id AND version_id = row_id AND template_version.xmin = version
      AND fresh.value IS NOT NULL
    RETURNING 1
)
SELECT count(*) AS number FROM replaced

-- name: replace_suppression
-- The same of suppressions.
WITH replaced AS (
    UPDATE suppression SET sealed_entry = fresh.value
    FROM (SELECT unnest($2::uuid[]) AS parent_id, unnest($3::uuid[]) AS row_id, unnest($4::xid[]) AS version,
                 unnest($5::bytea[]) AS value) AS fresh
    WHERE tenant_id = $1 AND suppression_id = parent_id AND suppression_id = row_id AND suppression.xmin = version
      AND fresh.value IS NOT NULL
    RETURNING 1
)
SELECT count(*) AS number FROM replaced

-- name: replace_webhook
-- The same of webhooks.
WITH replaced AS (
    UPDATE webhook SET sealed_endpoint = coalesce(fresh.endpoint, sealed_endpoint),
                       sealed_secret = coalesce(fresh.secret, sealed_secret),
                       sealed_old_secret = coalesce(fresh.old_secret, sealed_old_secret)
    FROM (SELECT unnest($2::uuid[]) AS parent_id, unnest($3::uuid[]) AS row_id, unnest($4::xid[]) AS version,
                 unnest($5::bytea[]) AS endpoint, unnest($6::bytea[]) AS secret, unnest($7::bytea[]) AS old_secret) AS fresh
    WHERE tenant_id = $1 AND webhook_id = parent_id AND webhook_id = row_id AND webhook.xmin = version
      AND num_nonnulls(fresh.endpoint, fresh.secret, fresh.old_secret) > 0
    RETURNING num_nonnulls(fresh.endpoint, fresh.secret, fresh.old_secret) AS number
)
SELECT coalesce(sum(number), 0) AS number FROM replaced

-- name: replace_webhook_delivery
-- The same of what was sent to webhooks.
WITH replaced AS (
    UPDATE webhook_delivery SET sealed_answer = fresh.value
    FROM (SELECT unnest($2::uuid[]) AS parent_id, unnest($3::uuid[]) AS row_id, unnest($4::xid[]) AS version,
                 unnest($5::bytea[]) AS value) AS fresh
    WHERE tenant_id = $1 AND message_id = parent_id AND delivery_id = row_id AND webhook_delivery.xmin = version
      AND fresh.value IS NOT NULL
    RETURNING 1
)
SELECT count(*) AS number FROM replaced
