-- Templates. Only additions: a process of the release before knows nothing of them.

-- Names and aliases stand in clear, as tags do; what a template says is sealed in its versions.
CREATE TABLE template (
    tenant_id            uuid NOT NULL REFERENCES tenant,
    template_id          uuid NOT NULL,
    name                 text NOT NULL,
    alias                text,
    current_version_id   uuid NOT NULL,
    published_version_id uuid,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    published_at         timestamptz,
    PRIMARY KEY (tenant_id, template_id),
    CONSTRAINT template_alias_unique UNIQUE (tenant_id, alias),
    CONSTRAINT template_published_once CHECK ((published_version_id IS NULL) = (published_at IS NULL))
);

-- What a template says: the version that is edited, and the one that is sent where that is another. A version
-- never changes, so what was read of it stays true; what no template points at is deleted.
CREATE TABLE template_version (
    tenant_id      uuid NOT NULL,
    template_id    uuid NOT NULL,
    version_id     uuid NOT NULL,
    sealed_content bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, template_id, version_id),
    CONSTRAINT template_version_of_template FOREIGN KEY (tenant_id, template_id) REFERENCES template ON DELETE CASCADE,
    CONSTRAINT template_version_is_sealed CHECK (get_byte(sealed_content, 0) = 225)
);
ALTER TABLE template_version ALTER COLUMN sealed_content SET STORAGE EXTERNAL;

GRANT SELECT, INSERT, UPDATE, DELETE ON template, template_version TO email_gateway_service, email_gateway_tenant;

-- Rows of tenants stand under row-level security where it is on.
DO $$
BEGIN
    IF to_regprocedure('guard_tenant_rows(regclass)') IS NOT NULL THEN
        PERFORM guard_tenant_rows('template'), guard_tenant_rows('template_version');
    END IF;
END $$;
