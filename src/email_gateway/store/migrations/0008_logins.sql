-- Services log in as members of the service role, no longer as the owner of everything: what they need
-- not write they may not. The history of the schema is the migrations' alone.
REVOKE INSERT, UPDATE, DELETE ON schema_migration FROM email_gateway_service;
