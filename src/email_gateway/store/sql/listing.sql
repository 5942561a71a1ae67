-- name: by_time
-- Ids of a tenant's messages. Ids are ordered by time, so every list is a walk down an index, between two ids.
SELECT message_id FROM message AS candidate WHERE tenant_id = $1

-- name: by_tag
-- Of those with this tag.
SELECT message_id FROM message_tag AS candidate WHERE tenant_id = $1 AND name = $4 AND value = $5

-- name: by_state
-- Of those with a delivery in this state, which stands here in words: its indexes are of some states only. Of few that
-- are queued or sending those are all read; of many the newest messages are, until there is a page of them.
SELECT DISTINCT message_id FROM delivery AS candidate
WHERE tenant_id = $1 AND state = :state AND (state <> 'queued' OR coalesce(scheduled_at > now(), false) = $7)

-- name: by_schedule
-- Of those with a delivery that is scheduled: they have an index of their own.
SELECT DISTINCT message_id FROM delivery AS candidate
WHERE tenant_id = $1 AND state = 'queued' AND scheduled_at IS NOT NULL AND scheduled_at > now()

-- name: by_person
-- Of those that carry this blind value.
SELECT message_id FROM blind_index AS candidate WHERE tenant_id = $1 AND field = $11 AND index_key_id = $12 AND value = $13

-- name: matching
-- What of them is wanted: between the two ids, and whatever else is asked for, looked up for each by its key. The
-- LIMIT keeps the planner from reading a whole table instead. $4 to $9 are NULL where they do not matter.
AND message_id > $2 AND message_id < $3
AND ($4::text IS NULL OR (
    SELECT true FROM message_tag AS other
    WHERE other.tenant_id = $1 AND other.message_id = candidate.message_id AND other.name = $4 AND other.value = $5::text
    LIMIT 1))
AND ($6::text IS NULL OR (
    SELECT true FROM delivery AS other
    WHERE other.tenant_id = $1 AND other.message_id = candidate.message_id AND other.state = $6
      AND (other.state <> 'queued' OR coalesce(other.scheduled_at > now(), false) = $7::boolean)
    LIMIT 1))
AND (coalesce($8::timestamptz, $9::timestamptz) IS NULL OR (
    SELECT created_at >= coalesce($8, created_at) AND created_at < coalesce($9, 'infinity') FROM message AS other
    WHERE other.tenant_id = $1 AND other.message_id = candidate.message_id))
