-- name: add_idempotency_keys
-- Take each key that is free or expired; the sorted order keeps two groups from a deadlock.
-- A twin that is being committed elsewhere is waited for, up to lock_timeout.
INSERT INTO idempotency AS kept (tenant_id, key_hmac, fingerprint, response, expires_at)
SELECT tenant_id, key_hmac, fingerprint, response, now() + $5::interval
FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::bytea[]) AS fresh (tenant_id, key_hmac, fingerprint, response)
ORDER BY tenant_id, key_hmac
ON CONFLICT (tenant_id, key_hmac) DO UPDATE
    SET fingerprint = excluded.fingerprint, response = excluded.response, expires_at = excluded.expires_at
    WHERE kept.expires_at <= now()
RETURNING tenant_id, key_hmac

-- name: give_back_idempotency_keys
-- Keys that this transaction has just taken for requests that did not win all of theirs.
DELETE FROM idempotency USING unnest($1::uuid[], $2::bytea[]) AS given (tenant_id, key_hmac)
WHERE idempotency.tenant_id = given.tenant_id AND idempotency.key_hmac = given.key_hmac

-- name: find_idempotency_answer
-- What the first request with this key was answered, under whichever index key it is known.
SELECT key_hmac, fingerprint, response FROM idempotency
WHERE tenant_id = $1 AND key_hmac = ANY ($2::bytea[]) AND expires_at > now() LIMIT 1

-- name: prune_idempotency_keys
-- Forget keys whose day is over, some at a time so that no lock is held for long.
DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED))

-- name: add_messages
-- Everything a group of requests brings, in one statement: messages, deliveries, blind indexes,
-- first events. Arrays instead of rows: one round trip and one plan whatever the size of the group.
-- A delivery to a suppressed address is born in its final state, with the event that says why.
WITH messages AS (
    INSERT INTO message (tenant_id, message_id, sealed_content, sealed_tax_id, sealed_summary, size, sender_domain,
                         delivery_count, attachment_count, on_doubt, expires_at, dead_at_expiry, traceparent)
    SELECT tenant_id, message_id, sealed_content, sealed_tax_id, sealed_summary, size, sender_domain,
           delivery_count, attachment_count, on_doubt, greatest(scheduled_at, now()) + lifetime, dead_at_expiry,
           traceparent
    FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::bytea[], $23::bytea[], $5::int[], $6::text[], $7::smallint[],
                $8::smallint[], $9::text[], $10::interval[], $11::boolean[], $24::timestamptz[],
                $26::text[])
         AS fresh (tenant_id, message_id, sealed_content, sealed_tax_id, sealed_summary, size, sender_domain,
                   delivery_count, attachment_count, on_doubt, lifetime, dead_at_expiry, scheduled_at, traceparent)
), events AS (
    INSERT INTO event (tenant_id, message_id, kind)
    SELECT tenant_id, message_id, 'accepted' FROM unnest($1::uuid[], $2::uuid[]) AS fresh (tenant_id, message_id)
), indexes AS (
    INSERT INTO blind_index (tenant_id, message_id, field, index_key_id, value)
    SELECT tenant_id, message_id, field, index_key_id, value
    FROM unnest($17::uuid[], $18::uuid[], $19::text[], $20::bytea[], $21::bytea[])
         AS fresh (tenant_id, message_id, field, index_key_id, value)
), recipients AS MATERIALIZED (
    SELECT tenant_id, message_id, recipient, domain, priority, lifetime, scheduled_at,
           suppressed_for(tenant_id, index_key_id, value) AS suppressed
    FROM unnest($12::uuid[], $13::uuid[], $14::smallint[], $15::text[], $16::smallint[], $22::interval[],
                $25::timestamptz[], $27::bytea[], $28::bytea[])
         AS fresh (tenant_id, message_id, recipient, domain, priority, lifetime, scheduled_at, index_key_id, value)
), suppressions AS (
    INSERT INTO event (tenant_id, message_id, recipient, kind, reason)
    SELECT tenant_id, message_id, recipient, 'suppressed', suppressed FROM recipients WHERE suppressed IS NOT NULL
)
INSERT INTO delivery (tenant_id, message_id, recipient, domain, priority, expires_at, scheduled_at, lane,
                      state, next_attempt_at, finished_at, reason)
SELECT tenant_id, message_id, recipient, domain, priority, greatest(scheduled_at, now()) + lifetime,
       CASE WHEN scheduled_at > now() THEN scheduled_at END,
       CASE WHEN domain = 'simulator.example' THEN 'simulator' ELSE '' END,
       CASE WHEN suppressed IS NULL THEN 'queued' ELSE 'suppressed' END,
       CASE WHEN suppressed IS NULL THEN greatest(scheduled_at, now()) END,
       CASE WHEN suppressed IS NOT NULL THEN now() END, suppressed
FROM recipients

-- name: add_tags
-- Tags stand in clear, for filters and statistics; the documentation says so.
INSERT INTO message_tag (tenant_id, message_id, name, value)
SELECT tenant_id, message_id, name, value
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS fresh (tenant_id, message_id, name, value)

-- name: add_attachments
-- Each attachment is a value sealed on its own, with a summary beside it.
INSERT INTO attachment (tenant_id, message_id, position, attachment_id, sealed_content, size, sealed_summary)
SELECT tenant_id, message_id, position, attachment_id, sealed_content, size, sealed_summary
FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[], $5::bytea[], $6::int[], $7::bytea[])
     AS fresh (tenant_id, message_id, position, attachment_id, sealed_content, size, sealed_summary)

-- name: await_disk
-- Commits something, so that everything written to the log before it is on the disk, whoever wrote it.
SELECT pg_logical_emit_message(true, 'email_gateway', '')

-- name: find_messages
-- The messages of these ids, for one tenant; of a large one the summary instead of the content.
SELECT tenant_id, message_id, created_at, expires_at, sender_domain, size, attachment_count,
       CASE WHEN sealed_summary IS NULL THEN sealed_content END AS sealed_content, sealed_summary, sealed_tax_id, traceparent
FROM message WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[])
ORDER BY message_id DESC

-- name: list_deliveries
-- The deliveries of these messages, in the order of their envelopes. A place in the queue is an attempt
-- to come only while the delivery stands in it.
SELECT message_id, recipient, domain, state, phase, attempts, CASE WHEN state = 'queued' THEN next_attempt_at END AS next_attempt_at,
       finished_at, reason, last_code, last_enhanced, scheduled_at, state = 'queued' AND coalesce(scheduled_at > now(), false)
FROM delivery WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[])
ORDER BY message_id, recipient

-- name: list_tags
-- The tags of these messages.
SELECT message_id, name, value FROM message_tag
WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[])
ORDER BY message_id, name

-- name: list_events
-- A message's facts in the order they happened.
SELECT event_id, recipient, kind, at, attempt, stage, reason, code, enhanced, sealed_reply
FROM event WHERE tenant_id = $1 AND message_id = $2
ORDER BY at, event_id

-- name: get_sealed_content
-- The content of one message, whatever its size.
SELECT CASE WHEN is_in_pieces(sealed_content) THEN whole_value(tenant_id, message_id, message_id, sealed_content)
            ELSE sealed_content END AS sealed_content
FROM message WHERE tenant_id = $1 AND message_id = $2

-- name: get_sealed_attachment
-- One attachment of a message, whatever its size.
SELECT CASE WHEN is_in_pieces(sealed_content) THEN whole_value(tenant_id, message_id, attachment_id, sealed_content)
            ELSE sealed_content END AS sealed_content
FROM attachment WHERE tenant_id = $1 AND message_id = $2 AND attachment_id = $3

-- name: list_sealed_attachments
-- A message's attachments in their order.
SELECT attachment_id,
       CASE WHEN is_in_pieces(sealed_content) THEN whole_value(tenant_id, message_id, attachment_id, sealed_content)
            ELSE sealed_content END AS sealed_content
FROM attachment WHERE tenant_id = $1 AND message_id = $2 ORDER BY position
