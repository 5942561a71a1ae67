-- name: create_logins
-- The roles that the grants speak of, and the two logins that are their members. Whatever the login of
-- the migrations makes belongs to the owner role, since its sessions begin as that role.
DO $$
DECLARE
    missing text;
BEGIN
    FOR missing IN
        SELECT name FROM unnest(ARRAY['email_gateway_owner', 'email_gateway_service', 'email_gateway_tenant',
                                      'email_gateway_migrator', 'email_gateway_process']) AS name
        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
    LOOP
        EXECUTE format('CREATE ROLE %I', missing);
    END LOOP;
END
$$;
ALTER ROLE email_gateway_migrator LOGIN;
ALTER ROLE email_gateway_process LOGIN;
GRANT email_gateway_owner TO email_gateway_migrator;
GRANT email_gateway_service, email_gateway_tenant TO email_gateway_process;
ALTER ROLE email_gateway_migrator SET role = 'email_gateway_owner'

-- name: phrase_password
-- DDL takes no parameters: the server quotes them.
SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text) AS statement

-- name: phrase_ownership
-- What gives the owner role the database and everything in it that is the present user's, as in a
-- database whose migrations ran under the superuser. An index follows its table.
SELECT format('ALTER DATABASE %I OWNER TO email_gateway_owner', datname) AS statement
FROM pg_database WHERE datname = current_database() AND datdba <> 'email_gateway_owner'::regrole
UNION ALL
SELECT format('ALTER TABLE %s OWNER TO email_gateway_owner', oid::regclass)  -- of views too
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND pg_get_userbyid(relowner) = current_user
UNION ALL
SELECT format('ALTER FUNCTION %s OWNER TO email_gateway_owner', oid::regprocedure)
FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND pg_get_userbyid(proowner) = current_user
