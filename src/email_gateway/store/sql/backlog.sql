-- name: read_backlog
-- What waits: deliveries that are due and not claimed, since when the oldest is, and when the next one becomes due.
-- The partial index of queued deliveries answers all three.
SELECT count(*) FILTER (WHERE next_attempt_at <= now()) AS due,
       now() - min(next_attempt_at) FILTER (WHERE next_attempt_at <= now()) AS oldest_due_for,
       min(next_attempt_at) FILTER (WHERE next_attempt_at > now()) AS next_due_at
FROM delivery WHERE state = 'queued'
