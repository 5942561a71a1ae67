-- name: demote_current
-- Another version is current now: the one before is accepted for the interval from this moment on.
UPDATE secret_version SET current_since = NULL, accepted_until = now() + $3::interval
WHERE name = $1 AND version_id <> $2 AND current_since IS NOT NULL

-- name: make_current
-- A statement of its own: of two current versions, even for a moment, the unique index would refuse one.
INSERT INTO secret_version (name, version_id, current_since) VALUES ($1, $2, now())
ON CONFLICT (name, version_id) DO UPDATE
    SET current_since = coalesce(secret_version.current_since, now()), accepted_until = NULL, staged_until = NULL

-- name: is_current
-- Whether this version is known to be the current one.
SELECT EXISTS (SELECT FROM secret_version WHERE name = $1 AND version_id = $2 AND current_since IS NOT NULL) AS found

-- name: lock_versions
-- One process at a time writes down which version is current.
SELECT pg_advisory_xact_lock(6373914, 4)

-- name: revoke_former
-- End every version but the current one, for good; one that is only staged has not begun yet.
UPDATE secret_version SET accepted_until = now(), staged_until = NULL, revoked_at = now()
WHERE name = $1 AND version_id <> $2 AND revoked_at IS NULL AND (accepted_until IS NOT NULL OR staged_until IS NULL)
RETURNING version_id

-- name: stage_version
-- A version that may be tried for the interval before it becomes current.
INSERT INTO secret_version (name, version_id, staged_until) VALUES ($1, $2, now() + $3::interval)
ON CONFLICT (name, version_id) DO UPDATE SET staged_until = excluded.staged_until

-- name: list_accepted
-- The versions besides the current one that open something, and for how long.
SELECT version_id, accepted_until - now() AS accepted_for, staged_until - now() AS staged_for
FROM secret_version
WHERE name = $1 AND current_since IS NULL AND revoked_at IS NULL
    AND (accepted_until > now() OR staged_until > now())

-- name: list_current
-- Since when each secret's current version is.
SELECT name, version_id, current_since FROM secret_version WHERE current_since IS NOT NULL
