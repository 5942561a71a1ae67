-- name: count_dead
-- How many dead letters there are, counted no further than $1, by their partial index.
SELECT count(*) AS dead FROM (SELECT FROM delivery WHERE state = 'dead' LIMIT $1) AS found

-- name: find_oldest_due
-- How long the delivery has waited that has been due the longest. One step of the index for each turn (a lane's
-- tenant and priority), for at most $1 turns, and never all of what is queued.
WITH RECURSIVE turn AS (
    (SELECT lane, tenant_id, priority, next_attempt_at FROM delivery WHERE state = 'queued'
     ORDER BY lane, tenant_id, priority, next_attempt_at LIMIT 1)
    UNION ALL
    SELECT next.lane, next.tenant_id, next.priority, next.next_attempt_at
    FROM turn CROSS JOIN LATERAL (
        SELECT lane, tenant_id, priority, next_attempt_at FROM delivery
        WHERE state = 'queued'
          AND (delivery.lane, delivery.tenant_id, delivery.priority) > (turn.lane, turn.tenant_id, turn.priority)
        ORDER BY lane, tenant_id, priority, next_attempt_at LIMIT 1) AS next
)
SELECT now() - min(next_attempt_at) AS waited FROM (SELECT next_attempt_at FROM turn LIMIT $1) AS first
WHERE next_attempt_at <= now()

-- name: list_version_ages
-- Since when each secret's current version is, as an age by the database's clock.
SELECT name, version_id, now() - current_since AS age FROM secret_version WHERE current_since IS NOT NULL

-- name: list_begun_rotations
-- Rotations that were begun after what serves now came into force, and how long ago: a root that is pending, an
-- admin key that is staged. Both end when a label moves; $1 is how long a staged version may be tried.
SELECT 'encryption-key' AS name, now() - created_at AS begun_for FROM crypto_root AS pending
WHERE state = 'pending' AND created_at > (
    SELECT coalesce(activated_at, active.created_at) FROM crypto_root AS active WHERE active.state = 'active')
UNION ALL
SELECT name, now() - max(staged_until - $1::interval) FROM secret_version AS staged
WHERE staged_until IS NOT NULL AND current_since IS NULL AND accepted_until IS NULL AND revoked_at IS NULL
  AND staged_until - $1::interval > (
    SELECT current_since FROM secret_version AS current
    WHERE current.name = staged.name AND current.current_since IS NOT NULL)
GROUP BY name
