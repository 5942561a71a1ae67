-- name: count_waiting
-- What waits: in all, by lane and by destination, the largest groups first, each by age in minutes (5, 20, 60,
-- 240, 1,440, more); scheduled ones grow old from their time on. At most $1 deliveries are looked at, those first
-- whose time runs out first: by their index.
WITH looked AS (
    SELECT lane, domain, since AS created_at, next_attempt_at > now() AS is_later, crashes > 0 AS is_suspect,
           doubts > 0 AS is_doubtful,
           width_bucket(extract(epoch FROM now() - since), ARRAY[300, 1200, 3600, 14400, 86400]) AS age
    FROM (SELECT *, greatest(created_at, scheduled_at) AS since FROM delivery
          WHERE state = 'queued' ORDER BY expires_at LIMIT $1) AS queued
), grouped AS (
    SELECT lane, domain, grouping(lane, domain) AS kind, count(*) AS total,
           ARRAY[count(*) FILTER (WHERE age = 0), count(*) FILTER (WHERE age = 1), count(*) FILTER (WHERE age = 2),
                 count(*) FILTER (WHERE age = 3), count(*) FILTER (WHERE age = 4), count(*) FILTER (WHERE age = 5)] AS by_age,
           count(*) FILTER (WHERE is_later) AS later, count(*) FILTER (WHERE is_suspect) AS suspects,
           count(*) FILTER (WHERE is_doubtful) AS doubtful, min(created_at) AS oldest_at
    FROM looked GROUP BY GROUPING SETS ((), (lane), (domain))
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY kind ORDER BY total DESC, lane, domain) AS place FROM grouped
)
SELECT lane, domain, total, by_age, later, suspects, doubtful, oldest_at FROM placed
WHERE place <= $2
ORDER BY kind DESC, place

-- name: count_sending
-- What is being attempted now: no more than the workers may claim.
SELECT count(*) AS sending FROM delivery WHERE state = 'sending'

-- name: count_suspects
-- What outlived a worker and waits to be composed alone, counted no further than $1.
SELECT count(*) AS suspects FROM (SELECT FROM delivery WHERE state = 'queued' AND lane = 'suspect' LIMIT $1) AS found

-- name: count_dead_reasons
-- Why deliveries are dead letters, of the oldest $1 of them.
SELECT reason, count(*) AS deliveries, min(finished_at) AS since
FROM (SELECT reason, finished_at FROM delivery WHERE state = 'dead' ORDER BY finished_at LIMIT $1) AS oldest
GROUP BY reason ORDER BY deliveries DESC, reason
