-- What it takes to serve tenants in turn, to keep a delivery's place in the queue, and to let mail wait
-- for a route instead of failing on it. Processes of the release before run on: they claim without
-- turns and clear `next_attempt_at` when they do, which is why a queued delivery alone must have one.

-- `next_attempt_at` stays while a delivery is being sent: it is the place that a claim which comes to
-- nothing gives it back.
ALTER TABLE delivery DROP CONSTRAINT delivery_queued_is_due;
ALTER TABLE delivery ADD CONSTRAINT delivery_queued_is_due CHECK (state <> 'queued' OR next_attempt_at IS NOT NULL) NOT VALID;

-- The queue that a delivery stands in: '' is the common one. `to:DOMAIN` and `from:TENANT/DOMAIN` wait for a
-- destination or a sender that is slowed or held, `suspect` outlived a worker and is tried alone.
ALTER TABLE delivery ADD COLUMN lane text NOT NULL DEFAULT '';
-- 0 goes first, then 1, then 2, within its tenant.
ALTER TABLE delivery ADD COLUMN priority smallint NOT NULL DEFAULT 1
    CONSTRAINT delivery_priority_known CHECK (priority BETWEEN 0 AND 2);
-- The claim that ran out last, while nobody has claimed the delivery since: its result still counts.
ALTER TABLE delivery ADD COLUMN lost_token uuid;

-- The doubts about a delivery without the one that its rescue counted, for the result of the claim that
-- was lost then: that result settles it.
CREATE FUNCTION doubts_before(standing delivery, token uuid) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT (standing.doubts - (standing.lost_token IS NOT DISTINCT FROM token AND standing.reason = 'in_doubt'
                               AND standing.doubts > 0)::int)::smallint
$$;

-- `composed`: what a content could do to a worker lies behind it; what follows waits for servers.
ALTER TABLE delivery DROP CONSTRAINT delivery_phase_known;
ALTER TABLE delivery ADD CONSTRAINT delivery_phase_known
    CHECK (phase IN ('claimed', 'composed', 'connected', 'rcpt_ok', 'dot_pending')) NOT VALID;

-- Turns: within a lane the tenants one after the other, within a tenant by priority and place; the
-- recipients of one message stand together.
CREATE INDEX delivery_turns ON delivery (lane, tenant_id, priority, next_attempt_at, message_id) WHERE state = 'queued';
DROP INDEX delivery_due;

-- `held` is a delivery that went back to its place, uncounted, because its route, destination or sender
-- must wait; `kept` is the final word on mail that a gateway keeps instead of sending it.
ALTER TABLE event DROP CONSTRAINT event_kind_known;
ALTER TABLE event ADD CONSTRAINT event_kind_known CHECK (kind IN
    ('accepted', 'sending', 'deferred', 'held', 'delivered', 'kept', 'bounced', 'expired', 'in_doubt', 'dead',
     'rescued', 'late', 'retried', 'discarded')) NOT VALID;
ALTER TABLE delivery DROP CONSTRAINT delivery_state_known;
ALTER TABLE delivery ADD CONSTRAINT delivery_state_known CHECK (state IN
    ('queued', 'sending', 'delivered', 'kept', 'bounced', 'expired', 'suppressed', 'cancelled', 'dead')) NOT VALID;

-- The temper of a route (lane '') and of a destination or a sender within it. No row: open, and as
-- fast as it goes. `slowed`: at most what `rate` allows, which is mails per second for the whole fleet,
-- as they were when the server last refused, at `slowed_at`; the pace starts below and climbs back.
-- `held`: nothing goes but one probe at `probe_at`; without one an operator holds it.
CREATE TABLE pace (
    route     text NOT NULL,
    lane      text NOT NULL DEFAULT '',
    state     text NOT NULL,
    held_by   text,
    stage     text,
    reason    text,
    code      smallint,
    enhanced  text,
    since     timestamptz NOT NULL DEFAULT now(),
    rate      real,
    slowed_at timestamptz,
    probe_at  timestamptz,
    probes    integer NOT NULL DEFAULT 0,
    PRIMARY KEY (route, lane),
    CONSTRAINT pace_state_known CHECK (state IN ('slowed', 'held')),
    CONSTRAINT pace_held_by_somebody CHECK ((state = 'held') = (held_by IS NOT NULL) AND held_by IN ('replies', 'operator')),
    CONSTRAINT pace_slowed_to_a_rate CHECK ((rate IS NULL) = (slowed_at IS NULL) AND (state = 'held' OR rate > 0)),
    CONSTRAINT pace_probed_while_held CHECK ((probe_at IS NOT NULL) = (coalesce(held_by, '') = 'replies'))
);
GRANT SELECT, INSERT, UPDATE, DELETE ON pace TO email_gateway_service;
