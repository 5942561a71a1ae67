-- What it takes to rescue what the dead held, and nothing else. Only additions: processes of the release
-- before run on, and never write the phase.

-- `composing`: a suspect that is being composed alone. A worker that dies now has died of it; one that
-- dies while the suspect waits for its turn has not.
ALTER TABLE delivery DROP CONSTRAINT delivery_phase_known;
ALTER TABLE delivery ADD CONSTRAINT delivery_phase_known
    CHECK (phase IN ('claimed', 'composing', 'composed', 'connected', 'rcpt_ok', 'dot_pending')) NOT VALID;

-- When a worker last looked for orphans, and since when somebody has looked without a long pause. While the
-- database is away or stalled nobody can, nor renew a lease; one row tells it to a worker that starts just then.
CREATE TABLE rescue_watch (
    is_only      boolean PRIMARY KEY DEFAULT true CONSTRAINT rescue_watch_is_one_row CHECK (is_only),
    looked_at    timestamptz NOT NULL DEFAULT now(),
    steady_since timestamptz NOT NULL DEFAULT now()
);
INSERT INTO rescue_watch DEFAULT VALUES;
GRANT SELECT, UPDATE ON rescue_watch TO email_gateway_service;
