-- name: look
-- What an operator must know of the server and of the login that we are, in one round trip.
SELECT current_setting('server_version_num')::int AS version_number,
       split_part(current_setting('server_version'), ' ', 1) AS version,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_standby_names') <> '' AS has_synchronous_standby,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true), '0')::int AS connection_limit,
       (SELECT sum(numbackends)::int FROM pg_stat_database) AS connections,
       pg_database_size(current_database()) AS database_size,
       pg_backend_pid() AS backend_pid,
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS is_encrypted,
       login.rolsuper AS is_superuser,
       CASE WHEN login.rolconnlimit >= 0 THEN login.rolconnlimit END AS login_limit
FROM pg_roles AS login WHERE login.rolname = session_user

-- name: look_at_rights
-- Tables that this login may not read, whether it could change the schema, and whether it may act for tenants (where
-- there is such a role yet).
SELECT coalesce(array_agg(relname::text ORDER BY relname) FILTER (WHERE NOT has_table_privilege(oid, 'SELECT')), '{}') AS closed,
       coalesce(bool_or(pg_has_role(relowner, 'USAGE')), false) AS is_owner,
       coalesce((SELECT pg_has_role(session_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = 'email_gateway_tenant'), true) AS acts_for_tenants
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')

-- name: get_time
-- What time it is for whoever shares this database.
SELECT now() AS now

-- name: get_backend_pid
-- Which backend answers.
SELECT pg_backend_pid()
