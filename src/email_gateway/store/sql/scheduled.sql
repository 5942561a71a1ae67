-- name: reschedule
-- Move a message that is still scheduled: its deliveries leave at another time, or at once, and live as long from
-- then on. Whatever a worker has claimed meanwhile, or whose time has come, is not touched. Lengths are added as
-- seconds: a day of a session's time zone may have 23 hours.
WITH changed AS (
    UPDATE delivery
    SET scheduled_at = greatest($3::timestamptz, now()), next_attempt_at = greatest($3, now()),
        expires_at = greatest($3, now()) + make_interval(secs => extract(epoch FROM expires_at - scheduled_at)::float8)
    WHERE tenant_id = $1 AND message_id = $2 AND state = 'queued' AND scheduled_at > now()
    RETURNING expires_at
), moved AS (
    SELECT max(expires_at) AS expires_at, count(*) AS deliveries FROM changed
), extended AS (
    UPDATE message SET expires_at = moved.expires_at FROM moved
    WHERE tenant_id = $1 AND message_id = $2 AND deliveries > 0
), events AS (
    INSERT INTO event (tenant_id, message_id, kind) SELECT $1, $2, 'rescheduled' FROM moved WHERE deliveries > 0
)
SELECT deliveries AS changed FROM moved

-- name: cancel
-- End a message that is still scheduled. Whatever a worker has claimed meanwhile, or whose time has come, goes on.
WITH changed AS (
    UPDATE delivery SET state = 'cancelled', finished_at = now(), reason = 'cancelled'
    WHERE tenant_id = $1 AND message_id = $2 AND state = 'queued' AND scheduled_at > now()
    RETURNING recipient
), events AS (
    INSERT INTO event (tenant_id, message_id, recipient, kind) SELECT $1, $2, recipient, 'cancelled' FROM changed
)
SELECT count(*) AS changed FROM changed

-- name: find_message
-- Whether there is such a message of the tenant.
SELECT FROM message WHERE tenant_id = $1 AND message_id = $2
