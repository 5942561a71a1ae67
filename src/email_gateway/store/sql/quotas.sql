-- name: find_allowances
-- What operators chose for these tenants.
SELECT tenant_id, key_rate, key_burst, daily_quota, monthly_quota FROM tenant WHERE tenant_id = ANY ($1::uuid[])

-- name: set_allowance
-- What an operator chose; null is as the settings have it.
UPDATE tenant SET key_rate = $2, key_burst = $3, daily_quota = $4, monthly_quota = $5 WHERE tenant_id = $1

-- name: find_use
-- What these tenants have used today and this month, by the database's clock: what was folded, and what was not yet.
WITH now_utc AS (
    SELECT (now() AT TIME ZONE 'UTC') AS at
), used AS (
    SELECT tenant_id, day, recipients FROM daily_use, now_utc
    WHERE tenant_id = ANY ($1::uuid[]) AND day >= date_trunc('month', at)::date
    UNION ALL
    SELECT tenant_id, day, amount FROM tally, now_utc
    WHERE tenant_id = ANY ($1::uuid[]) AND day >= date_trunc('month', at)::date
)
SELECT asked.tenant_id, coalesce(sum(recipients) FILTER (WHERE day = at::date), 0)::bigint AS today,
       coalesce(sum(recipients), 0)::bigint AS this_month,
       (date_trunc('day', at) + interval '1 day') AT TIME ZONE 'UTC' AS day_ends_at,
       (date_trunc('month', at) + interval '1 month') AT TIME ZONE 'UTC' AS month_ends_at,
       now() AS at
FROM unnest($1::uuid[]) AS asked (tenant_id) CROSS JOIN now_utc LEFT JOIN used USING (tenant_id)
GROUP BY asked.tenant_id, at
