-- What an administrator does once for the gateway (docs/settings.md, under PostgreSQL). The image of PostgreSQL runs it
-- through psql, as its superuser, when the volume `data` is new; nothing else of the gateway logs in as that one.
\set ON_ERROR_STOP on
\getenv migrator_password MIGRATOR_PASSWORD
\getenv process_password PROCESS_PASSWORD
CREATE ROLE email_gateway_owner;
CREATE ROLE email_gateway_service;
CREATE ROLE email_gateway_tenant;
CREATE ROLE email_gateway_migrator LOGIN PASSWORD :'migrator_password' IN ROLE email_gateway_owner;
CREATE ROLE email_gateway_process LOGIN PASSWORD :'process_password' IN ROLE email_gateway_service, email_gateway_tenant;
-- Whatever the migrations make belongs to the owner role, whoever runs them.
ALTER ROLE email_gateway_migrator SET role = 'email_gateway_owner';
CREATE DATABASE email_gateway OWNER email_gateway_owner;
REVOKE ALL ON DATABASE email_gateway FROM PUBLIC;
GRANT CONNECT ON DATABASE email_gateway TO email_gateway_service;
