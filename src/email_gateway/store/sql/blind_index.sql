-- name: add_blind_indexes
-- Entries that are there already, because their message came in under both keys, stay as they are.
INSERT INTO blind_index (tenant_id, message_id, field, index_key_id, value)
SELECT $1, message_id, field, index_key_id, value
FROM unnest($2::uuid[], $3::bytea[], $4::text[], $5::bytea[]) AS fresh (message_id, index_key_id, field, value)
ON CONFLICT DO NOTHING

-- name: count_blind_indexes
-- How many entries a field has under each of these index keys: one statement, so one moment.
SELECT index_key_id, count(*) AS count FROM blind_index
WHERE tenant_id = $1 AND field = $2 AND index_key_id = ANY ($3::bytea[]) GROUP BY index_key_id

-- name: delete_blind_indexes
-- Some of a field's entries under one index key, in the order of the primary key.
DELETE FROM blind_index WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM blind_index WHERE tenant_id = $1 AND index_key_id = $2 AND field = $3 ORDER BY value LIMIT $4))
