-- name: list_generations
-- The numbers that grow when the fleet has something to look at, and how long ago each did.
SELECT name, value, now() - changed_at AS age FROM generation

-- name: bump_generation
-- Have every process look: those that listen at once, those that were away when they compare numbers.
UPDATE generation SET value = value + 1, changed_at = now() WHERE name = $1
RETURNING value, pg_notify('email_gateway_' || name, '')

-- name: ask_generation
-- The same at an operator's wish, unless the last wish was less than the interval ago.
UPDATE generation SET value = value + 1, changed_at = now(), asked_at = now()
WHERE name = $1 AND (asked_at IS NULL OR asked_at <= now() - $2::interval)
RETURNING value, pg_notify('email_gateway_' || name, '')

-- name: get_wait
-- How long until the next wish is granted.
SELECT asked_at + $2::interval - now() AS wait FROM generation WHERE name = $1
