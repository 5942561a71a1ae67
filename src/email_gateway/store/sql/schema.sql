-- name: create_history
-- Remember which migrations ran, and with which text.
CREATE TABLE IF NOT EXISTS schema_migration (
    name       text PRIMARY KEY,
    sha256     bytea NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: lock_history
-- One migrator at a time in this database; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(6373914, 1)

-- name: list_applied
-- What ran already.
SELECT name, sha256 FROM schema_migration ORDER BY name

-- name: add_applied
-- Written in the migration's own transaction.
INSERT INTO schema_migration (name, sha256) VALUES ($1, $2)
