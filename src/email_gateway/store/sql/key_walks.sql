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

-- name: advance_walk
-- One batch more, in the transaction that wrote it.
UPDATE key_walk SET after_parent = $3, after_row = $4, moved = moved + $5, skipped = skipped + $6,
                    unreadable = unreadable + $7, finished_at = CASE WHEN $8 THEN now() END
WHERE tenant_id = $1 AND relation = $2

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

-- name: page_message
-- The next rows in the order of the primary key, bounded by number and bytes; at least one, so that
-- the walk goes on. Of each the values that are not under the key $4, which stands in bytes 2 to 18.
WITH page AS MATERIALIZED (
    SELECT message_id, sealed_content, sealed_tax_id FROM message
    WHERE tenant_id = $1 AND message_id >= $2 AND (message_id, message_id) > ($2::uuid, $3::uuid)
    ORDER BY message_id LIMIT $5
), measured AS (
    SELECT *, sum(octet_length(sealed_content)) OVER running AS bytes, row_number() OVER running AS place
    FROM page WINDOW running AS (ORDER BY message_id)
)
SELECT message_id, message_id,
       CASE WHEN substring(sealed_content FROM 3 FOR 16) <> $4::bytea THEN sealed_content END,
       CASE WHEN substring(sealed_tax_id FROM 3 FOR 16) <> $4::bytea THEN sealed_tax_id END
FROM measured WHERE bytes <= $6::bigint OR place = 1 ORDER BY message_id

-- name: page_attachment
-- The same of attachments, in the order of their messages.
WITH page AS MATERIALIZED (
    SELECT message_id, attachment_id, sealed_content FROM attachment
    WHERE tenant_id = $1 AND message_id >= $2 AND (message_id, attachment_id) > ($2::uuid, $3::uuid)
    ORDER BY message_id, attachment_id LIMIT $5
), measured AS (
    SELECT *, sum(octet_length(sealed_content)) OVER running AS bytes, row_number() OVER running AS place
    FROM page WINDOW running AS (ORDER BY message_id, attachment_id)
)
SELECT message_id, attachment_id,
       CASE WHEN substring(sealed_content FROM 3 FOR 16) <> $4::bytea THEN sealed_content END
FROM measured WHERE bytes <= $6::bigint OR place = 1 ORDER BY message_id, attachment_id

-- name: page_event
-- The same of events. A reply is short, but is measured all the same.
WITH page AS MATERIALIZED (
    SELECT message_id, event_id, sealed_reply FROM event
    WHERE tenant_id = $1 AND message_id >= $2 AND (message_id, event_id) > ($2::uuid, $3::uuid)
    ORDER BY message_id, event_id LIMIT $5
), measured AS (
    SELECT *, sum(coalesce(octet_length(sealed_reply), 0)) OVER running AS bytes, row_number() OVER running AS place
    FROM page WINDOW running AS (ORDER BY message_id, event_id)
)
SELECT message_id, event_id, CASE WHEN substring(sealed_reply FROM 3 FOR 16) <> $4::bytea THEN sealed_reply END
FROM measured WHERE bytes <= $6::bigint OR place = 1 ORDER BY message_id, event_id

-- name: page_inbox_mail
-- The same of the development inbox.
WITH page AS MATERIALIZED (
    SELECT inbox_id, sealed_raw FROM inbox_mail
    WHERE tenant_id = $1 AND inbox_id >= $2 AND (inbox_id, inbox_id) > ($2::uuid, $3::uuid)
    ORDER BY inbox_id LIMIT $5
), measured AS (
    SELECT *, sum(octet_length(sealed_raw)) OVER running AS bytes, row_number() OVER running AS place
    FROM page WINDOW running AS (ORDER BY inbox_id)
)
SELECT inbox_id, inbox_id, CASE WHEN substring(sealed_raw FROM 3 FOR 16) <> $4::bytea THEN sealed_raw END
FROM measured WHERE bytes <= $6::bigint OR place = 1 ORDER BY inbox_id

-- name: replace_message
-- Put values in the place of those that were read. Those are known by their key id and their nonce of 24
-- random bytes, which no two sealed values share: whatever was changed meanwhile stays as it is.
WITH replaced AS (
    UPDATE message SET sealed_content = coalesce(fresh.content, sealed_content),
                       sealed_tax_id = coalesce(fresh.tax_id, sealed_tax_id)
    FROM unnest($2::uuid[], $3::uuid[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[])
         AS fresh (parent_id, row_id, content_head, content, tax_id_head, tax_id)
    WHERE tenant_id = $1 AND message_id = parent_id AND message_id = row_id
      AND (content_head IS NULL OR substring(sealed_content FROM 3 FOR 40) = content_head)
      AND (tax_id_head IS NULL OR substring(sealed_tax_id FROM 3 FOR 40) = tax_id_head)
    RETURNING num_nonnulls(content_head, tax_id_head) AS number
)
SELECT coalesce(sum(number), 0) AS number FROM replaced

-- name: replace_attachment
-- The same of attachments.
WITH replaced AS (
    UPDATE attachment SET sealed_content = fresh.value
    FROM unnest($2::uuid[], $3::uuid[], $4::bytea[], $5::bytea[]) AS fresh (parent_id, row_id, head, value)
    WHERE tenant_id = $1 AND message_id = parent_id AND attachment_id = row_id
      AND substring(sealed_content FROM 3 FOR 40) = head
    RETURNING 1
)
SELECT count(*) AS number FROM replaced

-- name: replace_event
-- The same of events.
WITH replaced AS (
    UPDATE event SET sealed_reply = fresh.value
    FROM unnest($2::uuid[], $3::uuid[], $4::bytea[], $5::bytea[]) AS fresh (parent_id, row_id, head, value)
    WHERE tenant_id = $1 AND message_id = parent_id AND event_id = row_id
      AND substring(sealed_reply FROM 3 FOR 40) = head
    RETURNING 1
)
SELECT count(*) AS number FROM replaced

-- name: replace_inbox_mail
-- The same of the development inbox.
WITH replaced AS (
    UPDATE inbox_mail SET sealed_raw = fresh.value
    FROM unnest($2::uuid[], $3::uuid[], $4::bytea[], $5::bytea[]) AS fresh (parent_id, row_id, head, value)
    WHERE tenant_id = $1 AND inbox_id = parent_id AND inbox_id = row_id
      AND substring(sealed_raw FROM 3 FOR 40) = head
    RETURNING 1
)
SELECT count(*) AS number FROM replaced
