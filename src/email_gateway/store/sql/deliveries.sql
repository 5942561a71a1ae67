-- name: claim
-- Take due deliveries for one worker. SKIP LOCKED lets workers pass each other; the rows are
-- found again by ctid, which nobody can move while we hold their locks.
WITH claimed AS (
    UPDATE delivery
    SET state = 'sending', phase = 'claimed', attempts = attempts + 1, next_attempt_at = NULL,
        claim_token = gen_random_uuid(), claim_expires_at = now() + $2::interval
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM delivery
        WHERE state = 'queued' AND next_attempt_at <= now()
        ORDER BY next_attempt_at
        LIMIT $1
        FOR UPDATE SKIP LOCKED))
    RETURNING tenant_id, message_id, recipient, domain, claim_token, attempts
), events AS (
    INSERT INTO event (tenant_id, message_id, recipient, kind, attempt)
    SELECT tenant_id, message_id, recipient, 'sending', attempts FROM claimed
)
SELECT claimed.tenant_id, claimed.message_id, recipient, domain, claim_token, attempts,
       message.created_at, message.expires_at, message.on_doubt, message.attachment_count, message.dead_at_expiry,
       message.expires_at <= now() AS is_expired,
       CASE WHEN octet_length(message.sealed_content) <= $3 THEN message.sealed_content END AS sealed
FROM claimed
JOIN message USING (tenant_id, message_id)
ORDER BY claimed.tenant_id, claimed.message_id, recipient

-- name: commit_dot_pending
-- Commit the phase and begin the lease anew, for the claims that are still held.
UPDATE delivery
SET phase = 'dot_pending', claim_expires_at = now() + $5::interval
FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[]) AS held (tenant_id, message_id, recipient, token)
WHERE delivery.tenant_id = held.tenant_id AND delivery.message_id = held.message_id
  AND delivery.recipient = held.recipient AND delivery.claim_token = held.token
RETURNING delivery.claim_token

-- name: renew
-- Begin leases anew and note the phases reached. A row that is locked is being written by its own
-- worker this moment: it is passed over, since waiting for it in another order would be a deadlock.
-- A renewal that was composed before the dot must not take `dot_pending` back.
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
SET phase = CASE WHEN delivery.phase = 'dot_pending' THEN delivery.phase ELSE free.phase END,
    claim_expires_at = now() + $6::interval
FROM free WHERE delivery.ctid = row_id

-- name: finish
-- Write what attempts came to, with their events, where the claim is still held; a result that
-- comes too late becomes an event and never a state (contract C4). A delivery that cannot be
-- tried again before its message expires ends here.
WITH result AS (
    SELECT *, state = 'queued' AND now() + delay >= expires_at AS is_over
    FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[], $5::text[], $6::interval[], $7::timestamptz[],
                $8::text[], $9::smallint[], $10::uuid[], $11::text[], $12::text[], $13::text[], $14::smallint[],
                $15::text[], $16::bytea[])
         AS fresh (tenant_id, message_id, recipient, token, state, delay, expires_at,
                   at_expiry, attempt, event_id, kind, stage, reason, code, enhanced, sealed_reply)
), changed AS (
    UPDATE delivery
    SET state = CASE WHEN is_over THEN at_expiry ELSE result.state END,
        next_attempt_at = CASE WHEN result.state = 'queued' AND NOT is_over THEN now() + delay END,
        finished_at = CASE WHEN result.state = 'queued' AND NOT is_over THEN NULL ELSE now() END,
        phase = NULL, claim_token = NULL, claim_expires_at = NULL,
        doubts = doubts + (kind = 'in_doubt')::int,
        reason = CASE WHEN kind = 'in_doubt' AND result.state = 'dead' THEN 'in_doubt' ELSE result.reason END,
        last_code = result.code, last_enhanced = result.enhanced
    FROM result
    WHERE delivery.tenant_id = result.tenant_id AND delivery.message_id = result.message_id
      AND delivery.recipient = result.recipient AND delivery.claim_token = result.token
    RETURNING result.event_id, delivery.state
), events AS (
    INSERT INTO event (tenant_id, message_id, event_id, recipient, kind, attempt, stage, reason, code, enhanced, sealed_reply)
    SELECT tenant_id, message_id, event_id, recipient,
           CASE WHEN changed.event_id IS NULL THEN 'late' WHEN is_over THEN at_expiry ELSE kind END,
           attempt, stage, reason, code, enhanced, sealed_reply
    FROM result LEFT JOIN changed USING (event_id)
    -- A doubt that the message's policy holds is two facts, in this order: the doubt, and the death.
    UNION ALL
    SELECT tenant_id, message_id, gen_random_uuid(), recipient, 'dead', attempt, NULL, 'in_doubt', NULL, NULL, NULL
    FROM result JOIN changed USING (event_id) WHERE kind = 'in_doubt' AND changed.state = 'dead'
)
SELECT event_id, state FROM changed

-- name: rescue
-- Return the deliveries of workers that died. Before the dot nothing was sent, so sending again is
-- safe; in `dot_pending` the delivery is in doubt (RFC 1047) and the message's policy decides.
-- A delivery that outlived too many workers is put aside: it may be what kills them.
WITH lost AS (
    SELECT delivery.ctid AS row_id, delivery.tenant_id, delivery.message_id, recipient, attempts,
           phase = 'dot_pending' AS is_in_doubt,
           CASE WHEN phase = 'dot_pending' AND on_doubt = 'hold' THEN 'in_doubt'
                WHEN crashes + 1 >= $1 THEN 'worker_lost' END AS dead_reason
    FROM delivery JOIN message USING (tenant_id, message_id)
    WHERE state = 'sending' AND claim_expires_at < now()
    LIMIT $2
    FOR UPDATE OF delivery SKIP LOCKED
), changed AS (
    UPDATE delivery
    SET state = CASE WHEN dead_reason IS NULL THEN 'queued' ELSE 'dead' END,
        next_attempt_at = CASE WHEN dead_reason IS NULL THEN now() END,
        finished_at = CASE WHEN dead_reason IS NULL THEN NULL ELSE now() END,
        phase = NULL, claim_token = NULL, claim_expires_at = NULL,
        crashes = crashes + 1, doubts = doubts + is_in_doubt::int,
        reason = coalesce(dead_reason, CASE WHEN is_in_doubt THEN 'in_doubt' ELSE 'worker_lost' END)
    FROM lost WHERE delivery.ctid = row_id
), events AS (
    INSERT INTO event (tenant_id, message_id, recipient, kind, attempt, reason)
    SELECT tenant_id, message_id, recipient, CASE WHEN is_in_doubt THEN 'in_doubt' ELSE 'rescued' END, attempts, 'worker_lost'
    FROM lost
    UNION ALL
    SELECT tenant_id, message_id, recipient, 'dead', attempts, dead_reason FROM lost WHERE dead_reason IS NOT NULL
)
SELECT count(*) AS rescued, count(*) FILTER (WHERE is_in_doubt) AS in_doubt, count(dead_reason) AS dead FROM lost

-- name: release
-- Give claims back untouched: the attempt did not happen, so it is not counted.
WITH changed AS (
    UPDATE delivery
    SET state = 'queued', next_attempt_at = now(), attempts = attempts - 1,
        phase = NULL, claim_token = NULL, claim_expires_at = NULL
    FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[]) AS held (tenant_id, message_id, recipient, token)
    WHERE delivery.tenant_id = held.tenant_id AND delivery.message_id = held.message_id
      AND delivery.recipient = held.recipient AND delivery.claim_token = held.token
    RETURNING delivery.tenant_id, delivery.message_id, delivery.recipient, attempts
)
INSERT INTO event (tenant_id, message_id, recipient, kind, attempt, reason)
SELECT tenant_id, message_id, recipient, 'rescued', attempts + 1, 'worker_stopped' FROM changed
