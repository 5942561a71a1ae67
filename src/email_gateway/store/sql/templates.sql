-- name: add_template
-- A new template with its first version; no row when the tenant has as many as it may. That is counted no further.
WITH added AS (
    INSERT INTO template (tenant_id, template_id, name, alias, current_version_id)
    SELECT $1, $2, $3, $4, $5
    WHERE (SELECT count(*) FROM (SELECT FROM template WHERE tenant_id = $1 LIMIT $7) AS counted) < $7
    RETURNING tenant_id, template_id, current_version_id
)
INSERT INTO template_version (tenant_id, template_id, version_id, sealed_content)
SELECT tenant_id, template_id, current_version_id, $6 FROM added
RETURNING version_id

-- name: find_template
-- A template with the version that is edited, by its id or its alias.
SELECT template.tenant_id, template_id, name, alias, current_version_id, published_version_id, template.created_at,
       updated_at, published_at, sealed_content
FROM template JOIN template_version AS version USING (tenant_id, template_id)
WHERE tenant_id = $1 AND (template_id = $2 OR alias = $3) AND version_id = current_version_id

-- name: find_published
-- What is sent of a template, by its id or its alias.
SELECT version_id, sealed_content
FROM template JOIN template_version AS version USING (tenant_id, template_id)
WHERE tenant_id = $1 AND (template_id = $2 OR alias = $3) AND version_id = published_version_id

-- name: list_templates_after
-- One page towards older templates; ids are ordered by time.
SELECT tenant_id, template_id, name, alias, current_version_id, published_version_id, created_at, updated_at,
       published_at
FROM template WHERE tenant_id = $1 AND ($2::uuid IS NULL OR template_id < $2)
ORDER BY template_id DESC LIMIT $3

-- name: list_templates_before
-- One page towards newer templates; the caller turns it round.
SELECT tenant_id, template_id, name, alias, current_version_id, published_version_id, created_at, updated_at,
       published_at
FROM template WHERE tenant_id = $1 AND template_id > $2
ORDER BY template_id ASC LIMIT $3

-- name: update_template
-- Another name, alias and version for a template that still stands at the version that was read.
WITH updated AS (
    UPDATE template SET name = $4, alias = $5, current_version_id = $6, updated_at = now()
    WHERE tenant_id = $1 AND template_id = $2 AND current_version_id = $3
    RETURNING tenant_id, template_id, current_version_id, published_version_id
), dropped AS (
    DELETE FROM template_version AS version USING updated
    WHERE version.tenant_id = updated.tenant_id AND version.template_id = updated.template_id
      AND version.version_id = $3 AND version.version_id IS DISTINCT FROM updated.published_version_id
)
INSERT INTO template_version (tenant_id, template_id, version_id, sealed_content)
SELECT tenant_id, template_id, current_version_id, $7 FROM updated
RETURNING version_id

-- name: publish_template
-- Have the version that is edited sent from now on, and forget the one that was.
WITH published AS (
    UPDATE template SET published_version_id = current_version_id, published_at = now(), updated_at = now()
    WHERE tenant_id = $1 AND (template_id = $2 OR alias = $3)
    RETURNING tenant_id, template_id, current_version_id
), dropped AS (
    DELETE FROM template_version AS version USING published
    WHERE version.tenant_id = published.tenant_id AND version.template_id = published.template_id
      AND version.version_id <> published.current_version_id
)
SELECT template_id FROM published

-- name: delete_template
-- A template and its versions.
DELETE FROM template WHERE tenant_id = $1 AND (template_id = $2 OR alias = $3) RETURNING template_id
