-- name: claim
-- Take due deliveries for one worker, from each lane up to its quota: its tenants in turn from the
-- cursor on, within a tenant by priority and place. SKIP LOCKED lets workers pass each other; the rows
-- are found again by ctid, which nobody can move while we hold their locks. What stands in a lane and
-- belongs into another, because its destination or sender is slowed or held, is moved there on sight; a
-- suspect stays one, and is passed over.
WITH RECURSIVE wanted AS (
    SELECT lane, quota FROM unnest($1::text[], $2::int[]) AS wanted (lane, quota)
), waiting AS (
    -- One tenant after the other by the index, never all of their deliveries.
    SELECT lane, quota, first.tenant_id, 1 AS turn
    FROM wanted CROSS JOIN LATERAL (
        SELECT tenant_id FROM delivery
        WHERE state = 'queued' AND delivery.lane = wanted.lane AND tenant_id > $3
        ORDER BY tenant_id LIMIT 1) AS first
    UNION ALL
    SELECT lane, quota, next.tenant_id, turn + 1
    FROM waiting CROSS JOIN LATERAL (
        SELECT tenant_id FROM delivery
        WHERE state = 'queued' AND delivery.lane = waiting.lane AND delivery.tenant_id > waiting.tenant_id
        ORDER BY tenant_id LIMIT 1) AS next
    WHERE turn < quota
), seen AS MATERIALIZED (
    SELECT picked.*
    FROM (SELECT lane, tenant_id, greatest(quota / count(*) OVER (PARTITION BY lane), 1) AS share FROM waiting) AS turn
    CROSS JOIN LATERAL (
        SELECT delivery.ctid AS row_id, tenant_id, message_id, lane, priority, next_attempt_at, waits_in
        FROM delivery CROSS JOIN LATERAL (
            SELECT CASE WHEN domain = ANY ($4::text[]) THEN 'to:' || domain
                        WHEN cardinality($5::text[]) > 0 THEN (
                            SELECT sender FROM (
                                SELECT 'from:' || message.tenant_id || '/' || sender_domain AS sender FROM message
                                WHERE message.tenant_id = delivery.tenant_id AND message.message_id = delivery.message_id
                            ) AS named WHERE sender = ANY ($5))
                   END AS waits_in) AS known
        WHERE state = 'queued' AND lane = turn.lane AND tenant_id = turn.tenant_id AND next_attempt_at <= now()
          AND (lane <> 'suspect' OR waits_in IS NULL)
        ORDER BY priority, next_attempt_at, message_id
        LIMIT share
        FOR UPDATE OF delivery SKIP LOCKED) AS picked
), cut AS (
    -- A quota may end within a message: its other recipients come along, or it would be sent in parts.
    SELECT lane, tenant_id,
           (array_agg(message_id ORDER BY priority DESC, next_attempt_at DESC, message_id DESC))[1] AS message_id
    FROM seen WHERE waits_in IS NULL GROUP BY lane, tenant_id
), rest AS MATERIALIZED (
    -- One message at a time, and by its key: the index of the turns would lead past all that its tenant has queued.
    SELECT other.row_id
    FROM cut CROSS JOIN LATERAL (
        SELECT delivery.ctid AS row_id FROM delivery
        WHERE delivery.tenant_id = cut.tenant_id AND delivery.message_id = cut.message_id
          AND state || '' = 'queued' AND delivery.lane || '' = cut.lane
          AND next_attempt_at <= now() AND domain <> ALL ($4)
          AND delivery.ctid NOT IN (SELECT row_id FROM seen)
        FOR UPDATE OF delivery SKIP LOCKED) AS other
), chosen AS (
    SELECT row_id, NULL AS waits_in FROM rest
    UNION ALL
    SELECT row_id, CASE WHEN lane <> waits_in THEN waits_in END AS waits_in FROM seen
), diverted AS (
    UPDATE delivery SET lane = chosen.waits_in FROM chosen
    WHERE delivery.ctid = chosen.row_id AND chosen.waits_in IS NOT NULL
    RETURNING delivery.lane
), claimed AS (
    UPDATE delivery
    SET state = 'sending', phase = 'claimed', attempts = attempts + 1, lost_token = NULL,
        claim_token = gen_random_uuid(), claim_expires_at = now() + $6::interval
    WHERE ctid = ANY (ARRAY(SELECT row_id FROM chosen WHERE waits_in IS NULL))
    RETURNING tenant_id, message_id, recipient, domain, claim_token, attempts, lane, scheduled_at
), events AS (
    INSERT INTO event (tenant_id, message_id, recipient, kind, attempt)
    SELECT tenant_id, message_id, recipient, 'sending', attempts FROM claimed
)
SELECT claimed.tenant_id, claimed.message_id, recipient, domain, claim_token, attempts,
       greatest(message.created_at, claimed.scheduled_at) AS created_at, message.expires_at, message.on_doubt, message.attachment_count, message.dead_at_expiry,
       message.expires_at <= now() AS is_expired, message.created_at > now() - $8::interval AS is_fresh,
       message.sender_domain, claimed.lane,
       CASE WHEN octet_length(message.sealed_content) <= $7 THEN message.sealed_content END AS sealed,
       moved.lanes AS diverted
FROM (SELECT array_agg(DISTINCT lane) AS lanes FROM diverted) AS moved
LEFT JOIN (claimed JOIN message USING (tenant_id, message_id)) ON true
ORDER BY claimed.tenant_id, claimed.message_id, domain = 'simulator.example', recipient

-- name: list_lanes
-- The lanes in which something is queued, one step of the index for each.
WITH RECURSIVE stood AS (
    (SELECT lane FROM delivery WHERE state = 'queued' ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT next.lane FROM stood CROSS JOIN LATERAL (
        SELECT lane FROM delivery WHERE state = 'queued' AND delivery.lane > stood.lane ORDER BY lane LIMIT 1) AS next
)
SELECT lane FROM stood LIMIT $1

-- name: commit_phases
-- Commit the phases, for the claims that are still held. A lease begins anew where less than three quarters of
-- it are left: unchanged, the row stays in its page and no index is written (a HOT update).
UPDATE delivery
SET phase = held.phase,
    claim_expires_at = CASE WHEN claim_expires_at < now() + 0.75 * $6::interval THEN now() + $6 ELSE claim_expires_at END
FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[], $5::text[])
     AS held (tenant_id, message_id, recipient, token, phase)
WHERE delivery.tenant_id = held.tenant_id AND delivery.message_id = held.message_id
  AND delivery.recipient = held.recipient AND delivery.claim_token = held.token
RETURNING delivery.claim_token

-- name: renew
-- Begin leases anew and note the phases reached. A row that is locked is being written by its own
-- worker this moment: it is passed over, since waiting for it in another order would be a deadlock.
-- A renewal that was put together before a phase was committed must not take it back: $7 is their order.
WITH free AS (
    SELECT delivery.ctid AS row_id, held.phase
    FROM delivery
    JOIN unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[], $5::text[])
         AS held (tenant_id, message_id, recipient, token, phase)
         ON delivery.tenant_id = held.tenant_id AND delivery.message_id = held.message_id
            AND delivery.recipient = held.recipient AND delivery.claim_token = held.token
    FOR UPDATE OF delivery SKIP LOCKED
)
UPDATE delivery
SET phase = CASE WHEN array_position($7::text[], delivery.phase) > array_position($7, free.phase)
                 THEN delivery.phase ELSE free.phase END,
    claim_expires_at = now() + $6::interval
FROM free WHERE delivery.ctid = row_id

-- name: finish
-- Write what attempts came to, with their events. A result counts under its claim's token, also when that
-- claim ran out and nobody has claimed the delivery since; a server's 250 counts as long as no other
-- worker has begun to send. Whatever else comes too late becomes an event and never a state
-- (contract C4). A delivery that cannot be tried again before its message expires ends here; one
-- whose attempt does not count (no delay) goes back to its place. Written again after a connection
-- broke in the middle, a result changes nothing: its event is there.
WITH result AS (
    SELECT *, state = 'queued' AND now() + coalesce(delay, interval '0') >= expires_at AS is_over
    FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[], $5::text[], $6::interval[], $7::timestamptz[],
                $8::text[], $9::smallint[], $10::uuid[], $11::text[], $12::text[], $13::text[], $14::smallint[],
                $15::text[], $16::bytea[])
         AS fresh (tenant_id, message_id, recipient, token, state, delay, expires_at,
                   at_expiry, attempt, event_id, kind, stage, reason, code, enhanced, sealed_reply)
), written AS (
    SELECT event_id FROM event JOIN result USING (tenant_id, message_id, event_id)
), changed AS (
    UPDATE delivery
    SET state = CASE WHEN is_over THEN at_expiry
                     WHEN kind = 'in_doubt' AND doubts_before(delivery, token) >= $17 THEN 'dead'
                     ELSE result.state END,
        next_attempt_at = CASE WHEN delay IS NULL THEN coalesce(next_attempt_at, now()) ELSE now() + delay END,
        finished_at = CASE WHEN result.state <> 'queued' OR is_over
                                OR kind = 'in_doubt' AND doubts_before(delivery, token) >= $17 THEN now() END,
        phase = NULL, claim_token = NULL, claim_expires_at = NULL, lost_token = NULL,
        lane = CASE WHEN lane = 'suspect' THEN '' ELSE lane END, crashes = 0,
        attempts = attempts - (kind = 'held')::int,
        doubts = doubts_before(delivery, token) + (kind = 'in_doubt')::int,
        reason = CASE WHEN kind = 'in_doubt' AND (result.state = 'dead' OR doubts_before(delivery, token) >= $17)
                      THEN 'in_doubt' ELSE result.reason END,
        last_code = result.code, last_enhanced = result.enhanced
    FROM result
    WHERE delivery.tenant_id = result.tenant_id AND delivery.message_id = result.message_id
      AND delivery.recipient = result.recipient
      AND (delivery.claim_token = result.token
           OR (delivery.state = 'queued' OR delivery.state = 'dead' AND delivery.reason = 'in_doubt')
              AND (delivery.lost_token = result.token OR kind = 'delivered')
           OR kind = 'delivered' AND delivery.state = 'sending' AND delivery.phase <> 'dot_pending')
      AND event_id NOT IN (SELECT event_id FROM written)
    RETURNING result.event_id, delivery.state
), events AS (
    INSERT INTO event (tenant_id, message_id, event_id, recipient, kind, attempt, stage, reason, code, enhanced, sealed_reply)
    SELECT tenant_id, message_id, event_id, recipient,
           CASE WHEN changed.event_id IS NULL THEN 'late' WHEN is_over THEN at_expiry
                WHEN kind = 'complained' THEN 'delivered' ELSE kind END,
           attempt, stage, reason, code, enhanced, sealed_reply
    FROM result LEFT JOIN changed USING (event_id)
    WHERE event_id NOT IN (SELECT event_id FROM written)
    -- A doubt that ends the delivery is two facts, in this order: the doubt, and the death.
    UNION ALL
    SELECT tenant_id, message_id, gen_random_uuid(), recipient, 'dead', attempt, NULL, 'in_doubt', NULL, NULL, NULL
    FROM result JOIN changed USING (event_id) WHERE kind = 'in_doubt' AND changed.state = 'dead' AND NOT is_over
    -- So is a complaint: somebody received it, and then said that it was unwanted.
    UNION ALL
    SELECT tenant_id, message_id, gen_random_uuid(), recipient, 'complained', attempt, NULL, reason, NULL, NULL, NULL
    FROM result JOIN changed USING (event_id) WHERE kind = 'complained'
)
SELECT event_id, state FROM changed
UNION ALL
SELECT event_id, NULL FROM written

-- name: rescue
-- Return the deliveries of workers that died to their places. Before the dot nothing was sent, so
-- sending again is safe; in `dot_pending` the delivery is in doubt (RFC 1047), and the message's policy
-- decides, at most $3 times. The token is kept: until somebody claims the delivery again, its result
-- still counts. What was lost before it was composed may be what kills workers: it is composed alone
-- from now on, and put aside when too many died of it while they did that.
-- After an outage nobody is rescued for the time of a lease ($4), since nobody could renew: a pause in
-- which no worker looked here shows it. The watch is locked by whoever looks; another passes by.
WITH watch AS MATERIALIZED (
    SELECT looked_at FROM rescue_watch FOR UPDATE SKIP LOCKED
), steady AS (
    UPDATE rescue_watch
    SET steady_since = CASE WHEN watch.looked_at < now() - $4::interval / 2 THEN now()
                            ELSE rescue_watch.steady_since END,
        looked_at = greatest(watch.looked_at, now())
    FROM watch
    RETURNING steady_since
), lost AS (
    SELECT delivery.ctid AS row_id, delivery.tenant_id, delivery.message_id, recipient, attempts,
           phase = 'dot_pending' AS is_in_doubt, phase IN ('claimed', 'composing') AS is_suspect,
           CASE WHEN phase = 'composing' THEN crashes + 1
                WHEN phase = 'claimed' AND lane = 'suspect' THEN crashes
                WHEN phase = 'claimed' THEN 1 ELSE 0 END AS crashes,
           CASE WHEN phase = 'dot_pending' AND (on_doubt = 'hold' OR doubts >= $3) THEN 'in_doubt'
                WHEN phase = 'composing' AND delivery.crashes + 1 >= $1 THEN 'worker_lost' END AS dead_reason
    FROM delivery JOIN message USING (tenant_id, message_id)
    WHERE state = 'sending' AND claim_expires_at < now()
      AND (SELECT steady_since FROM steady) <= now() - $4::interval
    LIMIT $2
    FOR UPDATE OF delivery SKIP LOCKED
), changed AS (
    UPDATE delivery
    SET state = CASE WHEN dead_reason IS NULL THEN 'queued' ELSE 'dead' END,
        next_attempt_at = coalesce(next_attempt_at, now()),
        finished_at = CASE WHEN dead_reason IS NULL THEN NULL ELSE now() END,
        phase = NULL, claim_token = NULL, claim_expires_at = NULL, lost_token = claim_token,
        lane = CASE WHEN is_suspect THEN 'suspect' WHEN lane = 'suspect' THEN '' ELSE lane END,
        crashes = lost.crashes, doubts = doubts + is_in_doubt::int,
        reason = coalesce(dead_reason, CASE WHEN is_in_doubt THEN 'in_doubt' ELSE 'worker_lost' END)
    FROM lost WHERE delivery.ctid = row_id
), events AS (
    INSERT INTO event (tenant_id, message_id, recipient, kind, attempt, reason)
    SELECT tenant_id, message_id, recipient, CASE WHEN is_in_doubt THEN 'in_doubt' ELSE 'rescued' END, attempts, 'worker_lost'
    FROM lost
    UNION ALL
    SELECT tenant_id, message_id, recipient, 'dead', attempts, dead_reason FROM lost WHERE dead_reason IS NOT NULL
)
SELECT count(*) AS rescued, count(*) FILTER (WHERE is_in_doubt) AS in_doubt, count(dead_reason) AS dead,
       count(*) FILTER (WHERE dead_reason = 'in_doubt') AS doubts_held
FROM lost

-- name: release
-- Give claims back to their places, untouched: the attempt did not happen, so it is not counted.
WITH changed AS (
    UPDATE delivery
    SET state = 'queued', next_attempt_at = coalesce(next_attempt_at, now()), attempts = attempts - 1,
        phase = NULL, claim_token = NULL, claim_expires_at = NULL
    FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[]) AS held (tenant_id, message_id, recipient, token)
    WHERE delivery.tenant_id = held.tenant_id AND delivery.message_id = held.message_id
      AND delivery.recipient = held.recipient AND delivery.claim_token = held.token
    RETURNING delivery.tenant_id, delivery.message_id, delivery.recipient, attempts
)
INSERT INTO event (tenant_id, message_id, recipient, kind, attempt, reason)
SELECT tenant_id, message_id, recipient, 'held', attempts + 1, $5 FROM changed

-- name: expire
-- End what waits and whose time has run out, whether or not its route could have taken it, with its event.
-- What a lost worker may have heard meanwhile is waited for a little longer. A message that was given more
-- time (a retried dead letter) is looked at again then.
WITH due AS (
    SELECT row_id, tenant_id, message_id, recipient, attempts, expires_at AS until, expires_at <= now() AS is_over,
           CASE WHEN dead_at_expiry THEN 'dead' ELSE 'expired' END AS at_expiry
    FROM (
        SELECT ctid AS row_id, tenant_id, message_id, recipient, attempts FROM delivery
        WHERE state = 'queued' AND expires_at <= now() AND (lost_token IS NULL OR expires_at <= now() - $2::interval)
        ORDER BY expires_at LIMIT $1
        FOR UPDATE SKIP LOCKED) AS late
    JOIN message USING (tenant_id, message_id)
), postponed AS (
    UPDATE delivery SET expires_at = until FROM due WHERE delivery.ctid = row_id AND NOT is_over
), ended AS (
    UPDATE delivery
    SET state = at_expiry, finished_at = now(), lost_token = NULL, reason = 'expired', last_code = NULL, last_enhanced = NULL
    FROM due WHERE delivery.ctid = row_id AND is_over
), events AS (
    INSERT INTO event (tenant_id, message_id, recipient, kind, attempt, stage, reason)
    SELECT tenant_id, message_id, recipient, at_expiry, attempts, 'queue', 'expired' FROM due WHERE is_over
)
SELECT count(*) FILTER (WHERE is_over) AS ended, count(*) AS seen FROM due
