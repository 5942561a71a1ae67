-- name: list_lanes
-- Every lane of every route that is not open: what an operator holds, what replies hold, what is slowed.
SELECT lane, state, held_by, stage, reason, code, enhanced, since, rate, probes, probe_at,
       extract(epoch FROM now() - slowed_at)::float8 AS slowed_for,
       coalesce(probe_at <= now(), false) AS is_probe_due, route, actor, note
FROM pace
WHERE $1::text[] IS NULL OR lane = ANY ($1)
ORDER BY held_by = 'operator' DESC NULLS LAST, state, since, route, lane
LIMIT $2

-- name: hold
-- Hold a lane by hand. What replies said of it stays; held again, it keeps its time and gets the new reason.
INSERT INTO pace (route, lane, state, held_by, actor, note)
VALUES ($1, $2, 'held', 'operator', $3, $4)
ON CONFLICT (route, lane) DO UPDATE
    SET state = 'held', held_by = 'operator', actor = excluded.actor, note = excluded.note, probe_at = NULL,
        since = CASE WHEN pace.held_by = 'operator' THEN pace.since ELSE now() END

-- name: release
-- End a hold by hand. What replies said before it counts again: a rate as it was, a hold with a probe at once.
WITH chosen AS (
    SELECT route, lane, rate, reason FROM pace WHERE route = $1 AND lane = $2 AND held_by = 'operator' FOR UPDATE
), resumed AS (
    UPDATE pace
    SET state = CASE WHEN chosen.rate IS NULL THEN 'held' ELSE 'slowed' END,
        held_by = CASE WHEN chosen.rate IS NULL THEN 'replies' END,
        probe_at = CASE WHEN chosen.rate IS NULL THEN now() END,
        since = now(), probes = 0, actor = NULL, note = NULL
    FROM chosen
    WHERE pace.route = chosen.route AND pace.lane = chosen.lane AND (chosen.rate IS NOT NULL OR chosen.reason IS NOT NULL)
), opened AS (
    DELETE FROM pace USING chosen
    WHERE pace.route = chosen.route AND pace.lane = chosen.lane AND chosen.rate IS NULL AND chosen.reason IS NULL
)
SELECT lane FROM chosen

-- name: probe_now
-- Try what replies hold at once: something has changed. What an operator holds is not tried.
UPDATE pace SET probe_at = now(), probes = 0
WHERE held_by = 'replies' AND ($1::text IS NULL OR route = $1) AND ($2::text IS NULL OR lane = $2)
RETURNING route, lane

-- name: bring_forward
-- Make due now what would be tried again later, some at a time, those first whose time runs out first; but not
-- what its caller wants to leave later.
WITH chosen AS (
    SELECT delivery.ctid AS row_id
    FROM delivery
    WHERE state = 'queued' AND next_attempt_at > now() AND (scheduled_at IS NULL OR scheduled_at <= now())
      AND ($1::text IS NULL OR domain = $1)
      AND ($2::uuid IS NULL OR tenant_id = $2 AND EXISTS (
            SELECT FROM message
            WHERE message.tenant_id = delivery.tenant_id AND message.message_id = delivery.message_id
              AND sender_domain = $3))
    ORDER BY expires_at
    LIMIT $4
    FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE delivery SET next_attempt_at = now() FROM chosen WHERE delivery.ctid = row_id
)
SELECT count(*) AS changed FROM chosen
