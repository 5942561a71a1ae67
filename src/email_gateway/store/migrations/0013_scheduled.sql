-- Mail that is sent later, and what callers of the interface for emails look for. Only additions: a process of the
-- release before takes a scheduled delivery no earlier than the others do, since it waits by `next_attempt_at`.
-- Bring workers to this release before api processes: an older one would hand mail for the simulator to the route.

-- When a delivery was asked to leave; NULL: at once. While that is to come a queued delivery is shown as scheduled.
ALTER TABLE delivery ADD COLUMN scheduled_at timestamptz;
CREATE INDEX delivery_scheduled ON delivery (tenant_id, message_id) WHERE state = 'queued' AND scheduled_at IS NOT NULL;

-- The trace of the request that brought a message, as its caller named it (W3C Trace Context, version 00).
ALTER TABLE message ADD COLUMN traceparent text
    CONSTRAINT message_traceparent_is_short CHECK (octet_length(traceparent) = 55);

-- What a list shows of an attachment, so that the file itself stays sealed. Attachments from before have none.
ALTER TABLE attachment ADD COLUMN sealed_summary bytea
    CONSTRAINT attachment_summary_is_sealed CHECK (get_byte(sealed_summary, 0) = 225 AND octet_length(sealed_summary) > 58);

-- Lists by tag and by state go down these, newest first. Every state in one index would cost each mail three entries
-- (5 us of 28 to accept it, and as much to send it); most mail is queued, sending or delivered, and is found without.
CREATE INDEX message_tag_value ON message_tag (tenant_id, name, value, message_id);
CREATE INDEX delivery_ended ON delivery (tenant_id, state, message_id)
    WHERE state IN ('kept', 'bounced', 'expired', 'suppressed', 'cancelled', 'dead');

-- What a tenant changes by itself of its own mail: when it leaves, whether at all, and that it is tried again. The
-- running totals count that too.
GRANT UPDATE (state, next_attempt_at, scheduled_at, expires_at, finished_at, reason, crashes, lane) ON delivery
    TO email_gateway_tenant;
GRANT UPDATE (expires_at) ON message TO email_gateway_tenant;
GRANT INSERT ON event, tally TO email_gateway_tenant;

-- `rescheduled` and `cancelled` are what a caller asked for before the time had come. `complained`: whoever received it
-- called it unwanted. `suppressed`: the address is not written to.
ALTER TABLE event DROP CONSTRAINT event_kind_known;
ALTER TABLE event ADD CONSTRAINT event_kind_known CHECK (kind IN
    ('accepted', 'rescheduled', 'cancelled', 'sending', 'deferred', 'held', 'delivered', 'kept', 'bounced', 'complained',
     'suppressed', 'expired', 'in_doubt', 'dead', 'rescued', 'late', 'retried', 'discarded')) NOT VALID;
