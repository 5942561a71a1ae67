-- What it takes to change secrets and root keys while the fleet runs. Only additions: processes of
-- the release before run on against this schema, and count as not having acknowledged anything.

-- When a generation last changed, and when an operator last asked for it: one request per ten seconds.
ALTER TABLE generation ADD COLUMN changed_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE generation ADD COLUMN asked_at timestamptz;
INSERT INTO generation (name) VALUES ('keys');

-- Versions of secrets as the fleet has seen them; never a value. Of each secret one is current. The
-- deadlines are the admin key's: how long a version opens /admin after another became current, and
-- how long one that is only staged opens /admin/health.
CREATE TABLE secret_version (
    name           text NOT NULL,
    version_id     text NOT NULL,
    first_seen_at  timestamptz NOT NULL DEFAULT now(),
    current_since  timestamptz,
    accepted_until timestamptz,
    staged_until   timestamptz,
    revoked_at     timestamptz,
    PRIMARY KEY (name, version_id)
);
CREATE UNIQUE INDEX secret_version_one_current ON secret_version (name) WHERE current_since IS NOT NULL;

-- `retiring_at` starts the days that a root stays after another took over; `verified_at` is when
-- every live data key was last opened under it.
ALTER TABLE crypto_root ADD COLUMN retiring_at timestamptz;
ALTER TABLE crypto_root ADD COLUMN verified_at timestamptz;

-- What a process acknowledges: the generations it has followed, and which versions it holds since.
ALTER TABLE crypto_instance ADD COLUMN process text NOT NULL DEFAULT 'unknown';
ALTER TABLE crypto_instance ADD COLUMN host text NOT NULL DEFAULT 'unknown';
ALTER TABLE crypto_instance ADD COLUMN pid integer NOT NULL DEFAULT 0;
ALTER TABLE crypto_instance ADD COLUMN secrets_generation bigint NOT NULL DEFAULT -1;
ALTER TABLE crypto_instance ADD COLUMN keys_generation bigint NOT NULL DEFAULT -1;
ALTER TABLE crypto_instance ADD COLUMN active_root bytea;
ALTER TABLE crypto_instance ADD COLUMN secret_versions jsonb NOT NULL DEFAULT '{}';
ALTER TABLE crypto_instance ADD COLUMN failures jsonb NOT NULL DEFAULT '{}';

-- The one way to delete wraps: those of a root that retires, when every live data key has a wrap
-- under the active one. The service role may call it and may not delete by itself.
CREATE FUNCTION retire_root(retired bytea) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    deleted bigint;
BEGIN
    PERFORM FROM crypto_root WHERE root_id = retired AND state = 'retiring';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'only a retiring root can be retired' USING ERRCODE = 'restrict_violation';
    END IF;
    PERFORM FROM crypto_key WHERE state <> 'destroyed' AND NOT EXISTS (
        SELECT FROM crypto_key_wrap AS wrap JOIN crypto_root ON root_id = parent_id
        WHERE wrap.key_id = crypto_key.key_id AND crypto_root.state = 'active');
    IF FOUND THEN
        RAISE EXCEPTION 'a live data key has no wrap under the active root' USING ERRCODE = 'restrict_violation';
    END IF;
    DELETE FROM crypto_key_wrap WHERE parent_id = retired;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    UPDATE crypto_root SET state = 'retired', retired_at = now() WHERE root_id = retired;
    RETURN deleted;
END
$$;
REVOKE ALL ON FUNCTION retire_root(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION retire_root(bytea) TO email_gateway_service;
GRANT SELECT, INSERT, UPDATE ON secret_version TO email_gateway_service;
