-- name: list_pace
-- What is known of a route and the lanes within it; an open one has no row. A hold by hand may stand for every
-- route, and comes last: it outweighs what replies say.
SELECT lane, state, held_by, stage, reason, code, enhanced, since, rate, probes, probe_at,
       extract(epoch FROM now() - slowed_at)::float8 AS slowed_for,
       coalesce(probe_at <= now(), false) AS is_probe_due, route, actor, note
FROM pace WHERE route IN ($1, '*')
ORDER BY held_by IS NOT DISTINCT FROM 'operator'

-- name: hold
-- Let a lane wait, unless it is held already; what a probe heard counts always, but never against an operator.
INSERT INTO pace (route, lane, state, held_by, stage, reason, code, enhanced, probe_at)
VALUES ($1, $2, 'held', 'replies', $3, $4, $5, $6, now() + $7::interval)
ON CONFLICT (route, lane) DO UPDATE
    SET state = 'held', held_by = 'replies', stage = excluded.stage, reason = excluded.reason, code = excluded.code,
        enhanced = excluded.enhanced, probe_at = excluded.probe_at,
        probes = CASE WHEN pace.state = 'held' THEN pace.probes + 1 ELSE 0 END,
        since = CASE WHEN pace.state = 'held' THEN pace.since ELSE now() END
    WHERE pace.held_by IS DISTINCT FROM 'operator' AND (pace.state <> 'held' OR $8)

-- name: lease_probe
-- One worker of the fleet may try whether a held lane works again; the next one after a while.
UPDATE pace SET probe_at = now() + $3::interval
WHERE route = $1 AND lane = $2 AND held_by = 'replies' AND probe_at <= now()
RETURNING lane

-- name: open
-- A probe went well: as fast as it goes, or as fast as it was when the server last refused.
WITH slowed AS (
    UPDATE pace SET state = 'slowed', held_by = NULL, probe_at = NULL, probes = 0, since = now()
    WHERE route = $1 AND lane = $2 AND held_by = 'replies' AND rate IS NOT NULL
)
DELETE FROM pace WHERE route = $1 AND lane = $2 AND held_by = 'replies' AND rate IS NULL

-- name: slow
-- The server refused to take mail so fast. An attempt that had not heard of the last refusal says nothing new
-- about when, and only the more about how much: of what several processes saw at once the most counts.
INSERT INTO pace AS known (route, lane, state, stage, reason, code, enhanced, rate, slowed_at)
VALUES ($1, $2, 'slowed', $3, $4, $5, $6, $7, now())
ON CONFLICT (route, lane) DO UPDATE
    SET rate = CASE WHEN known.slowed_at >= now() - $8::interval THEN greatest(known.rate, excluded.rate)
                    ELSE excluded.rate END,
        slowed_at = CASE WHEN known.slowed_at >= now() - $8::interval THEN known.slowed_at ELSE now() END,
        since = CASE WHEN known.state = 'slowed' THEN now() ELSE known.since END,
        stage = CASE WHEN known.state = 'slowed' THEN excluded.stage ELSE known.stage END,
        reason = CASE WHEN known.state = 'slowed' THEN excluded.reason ELSE known.reason END,
        code = CASE WHEN known.state = 'slowed' THEN excluded.code ELSE known.code END,
        enhanced = CASE WHEN known.state = 'slowed' THEN excluded.enhanced ELSE known.enhanced END

-- name: rest
-- Nobody went at the rate that is allowed: it does not climb by time alone.
UPDATE pace SET slowed_at = now() - $3::interval
WHERE route = $1 AND lane = $2 AND state = 'slowed' AND slowed_at < now() - $3::interval

-- name: forget
-- A rate that has been climbing unrefused for long, or was not needed for long, is no limit any more.
DELETE FROM pace WHERE route = $1 AND lane = $2 AND state = 'slowed' AND since <= now() - $3::interval
