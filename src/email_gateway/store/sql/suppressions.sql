-- name: forget_expired
-- What has expired of these addresses stands in the way of a new suppression.
DELETE FROM suppression WHERE tenant_id = $1 AND expires_at <= now() AND suppression_id = ANY (ARRAY(
    SELECT suppression_id FROM suppression_index WHERE tenant_id = $1 AND index_key_id = $2 AND value = ANY ($3::bytea[])))

-- name: extend_suppressions
-- Those of these addresses that are suppressed already stay so, for the longer of both times.
WITH found AS (
    SELECT suppression_id AS found_id, value FROM suppression_index
    WHERE tenant_id = $1 AND index_key_id = $2 AND value = ANY ($3::bytea[])
)
UPDATE suppression
SET expires_at = CASE WHEN suppression.expires_at IS NOT NULL AND until IS NOT NULL
                      THEN greatest(suppression.expires_at, until) END
FROM found JOIN unnest($3::bytea[], $4::timestamptz[]) AS fresh (value, until) USING (value)
WHERE tenant_id = $1 AND suppression_id = found_id
RETURNING value, suppression_id

-- name: add_suppressions
-- Suppressions of addresses that have none.
INSERT INTO suppression (tenant_id, suppression_id, sealed_entry, reason, source_id, expires_at)
SELECT $1, suppression_id, sealed_entry, reason, source_id, expires_at
FROM unnest($2::uuid[], $3::bytea[], $4::text[], $5::uuid[], $6::timestamptz[])
     AS fresh (suppression_id, sealed_entry, reason, source_id, expires_at)

-- name: add_suppression_indexes
-- What suppressions are found by. Entries that are there already stay; one that was removed meanwhile gets none.
INSERT INTO suppression_index (tenant_id, index_key_id, value, suppression_id)
SELECT $1, index_key_id, value, suppression_id
FROM unnest($2::uuid[], $3::bytea[], $4::bytea[]) AS fresh (suppression_id, index_key_id, value)
WHERE EXISTS (SELECT FROM suppression WHERE tenant_id = $1 AND suppression.suppression_id = fresh.suppression_id
              FOR KEY SHARE)
ON CONFLICT DO NOTHING

-- name: remove_suppressions
-- End suppressions by their ids; expired ones are no longer there.
DELETE FROM suppression WHERE tenant_id = $1 AND suppression_id = ANY ($2::uuid[])
RETURNING suppression_id, expires_at IS NULL OR expires_at > now() AS is_in_force

-- name: find_by_values
-- The suppressions in force of these addresses.
SELECT value, suppression_id FROM suppression_index JOIN suppression USING (tenant_id, suppression_id)
WHERE tenant_id = $1 AND index_key_id = $2 AND value = ANY ($3::bytea[]) AND (expires_at IS NULL OR expires_at > now())

-- name: find_suppression
-- One suppression in force by its id.
SELECT suppression_id, sealed_entry, reason, source_id, created_at, expires_at FROM suppression
WHERE tenant_id = $1 AND suppression_id = $2 AND (expires_at IS NULL OR expires_at > now())

-- name: list_after
-- One page of the suppressions in force towards older ones; ids are ordered by time.
SELECT suppression_id, sealed_entry, reason, source_id, created_at, expires_at FROM suppression
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR suppression_id < $2) AND reason = ANY ($3::text[])
  AND (expires_at IS NULL OR expires_at > now())
ORDER BY suppression_id DESC LIMIT $4

-- name: list_before
-- One page towards newer ones; the caller turns it round.
SELECT suppression_id, sealed_entry, reason, source_id, created_at, expires_at FROM suppression
WHERE tenant_id = $1 AND suppression_id > $2 AND reason = ANY ($3::text[])
  AND (expires_at IS NULL OR expires_at > now())
ORDER BY suppression_id LIMIT $4

-- name: find_reasons
-- Why each of these recipients gets no mail, in their order, or null.
SELECT suppressed_for(tenant_id, index_key_id, value) AS reason
FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS asked (tenant_id, index_key_id, value, place)
ORDER BY place

-- name: count_suppression_indexes
-- How many entries there are under each of these index keys: one statement, so one moment.
SELECT index_key_id, count(*) AS count FROM suppression_index
WHERE tenant_id = $1 AND index_key_id = ANY ($2::bytea[]) GROUP BY index_key_id

-- name: delete_suppression_indexes
-- Some of the entries under one index key, in the order of the primary key.
DELETE FROM suppression_index WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM suppression_index WHERE tenant_id = $1 AND index_key_id = $2 ORDER BY value LIMIT $3))

-- name: prune_suppressions
-- Forget what has expired, some at a time so that no lock is held for long.
DELETE FROM suppression WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM suppression WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED))
