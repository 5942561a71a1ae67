"""Templates: their names, and the sealed versions of what they say."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from email_gateway.errors import Conflict, DatabaseRefused, NotFound
from email_gateway.store.database import Database, Queries
from email_gateway.store.pages import Page
from email_gateway.store.queries import load

SQL = load("templates")

MAX_TEMPLATES = 1000
ALIAS_UNIQUE = "template_alias_unique"


@dataclass(frozen=True, slots=True)
class Version:
    """What a template says, sealed under `template.content` for its own id."""

    version_id: UUID
    sealed: bytes


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A template as it is kept; what it says is in its versions."""

    tenant_id: UUID
    template_id: UUID
    name: str
    alias: str | None
    current_version_id: UUID
    published_version_id: UUID | None
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class Name:
    """How a caller names a template: by its id, or by its alias."""

    template_id: UUID | None
    alias: str | None


async def add_template(
    db: Database, tenant_id: UUID, template_id: UUID, name: str, alias: str | None, version: Version
) -> None:
    """Store a new draft; raises Conflict when the alias is taken, or the tenant has as many templates as it may."""
    arguments = (tenant_id, template_id, name, alias, version.version_id, version.sealed, MAX_TEMPLATES)
    try:
        row = await db.fetch_one(SQL.add_template, *arguments)
    except DatabaseRefused as refused:
        raise _explained(refused) from None
    if row is None:
        raise Conflict(f"delete a template first: {MAX_TEMPLATES} is as many as there may be")


async def get_template(db: Queries, tenant_id: UUID, name: Name) -> tuple[StoredTemplate, bytes]:
    """Return a template and its current version, still sealed; raises NotFound, also for another tenant's."""
    row = await db.fetch_one(SQL.find_template, tenant_id, name.template_id, name.alias)
    if row is None:
        raise NotFound("no such template")
    *fields, sealed = row
    return StoredTemplate(*fields), sealed


async def find_published(db: Queries, tenant_id: UUID, name: Name) -> Version | None:
    """Return what is sent of a template, still sealed; None for a draft, and for what there is none of."""
    row = await db.fetch_one(SQL.find_published, tenant_id, name.template_id, name.alias)
    return Version(*row) if row else None


async def list_templates(db: Queries, tenant_id: UUID, page: Page) -> tuple[list[StoredTemplate], bool]:
    """Return a page of the tenant's templates, newest first, and whether there are more."""
    sql = SQL.list_templates_after if page.before is None else SQL.list_templates_before
    cursor = page.after if page.before is None else page.before
    rows, has_more = page.cut(await db.fetch(sql, tenant_id, cursor, page.limit + 1))
    return [StoredTemplate(*row) for row in rows], has_more


async def update_template(db: Database, read: StoredTemplate, name: str, alias: str | None, version: Version) -> bool:
    """Give a template another name, alias and version; False when somebody changed it since it was read.

    Raises Conflict when the alias is taken.
    """
    arguments = (
        read.tenant_id,
        read.template_id,
        read.current_version_id,
        name,
        alias,
        version.version_id,
        version.sealed,
    )
    try:
        return await db.fetch_one(SQL.update_template, *arguments) is not None
    except DatabaseRefused as refused:
        raise _explained(refused) from None


async def publish_template(db: Database, tenant_id: UUID, name: Name) -> UUID:
    """Have the current version sent from now on; return the template's id, or raise NotFound."""
    return await _act(db, SQL.publish_template, tenant_id, name)


async def delete_template(db: Database, tenant_id: UUID, name: Name) -> UUID:
    """Delete a template and its versions; return its id, or raise NotFound."""
    return await _act(db, SQL.delete_template, tenant_id, name)


async def _act(db: Database, sql: str, tenant_id: UUID, name: Name) -> UUID:
    row = await db.fetch_one(sql, tenant_id, name.template_id, name.alias)
    if row is None:
        raise NotFound("no such template")
    template_id: UUID = row["template_id"]
    return template_id


def _explained(refused: DatabaseRefused) -> Exception:
    if refused.constraint == ALIAS_UNIQUE:
        return Conflict("choose another alias: another template has this one")
    return refused
