-- name: add_login_link
-- A link that nobody has used yet; only the hash of its token is kept.
INSERT INTO login_link (token_hash, operator, expires_at) VALUES ($1, $2, now() + $3::interval)

-- name: redeem_login_link
-- Mark the link as used and name its operator; of two at once the row lock lets one win.
UPDATE login_link SET redeemed_at = now()
WHERE token_hash = $1 AND redeemed_at IS NULL AND expires_at > now()
RETURNING operator

-- name: add_session
-- A session, found by the hash of its token and bound to the admin key.
INSERT INTO dashboard_session (session_hash, operator, csrf_hash, admin_key_hash, expires_at)
VALUES ($1, $2, $3, $4, now() + $5::interval)

-- name: find_session
-- A session that has not expired.
SELECT operator, csrf_hash, admin_key_hash FROM dashboard_session
WHERE session_hash = $1 AND expires_at > now()

-- name: end_session
-- Forget one session.
DELETE FROM dashboard_session WHERE session_hash = $1

-- name: prune_sessions
-- Forget sessions that have expired, and links a day after they have.
WITH links AS (DELETE FROM login_link WHERE expires_at < now() - interval '1 day')
DELETE FROM dashboard_session WHERE expires_at <= now()
