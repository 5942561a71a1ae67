"""The development inbox in the database: kept, paged, and apart from other tenants' mail."""

import uuid

import pytest
from uuid_utils.compat import uuid7

from email_gateway.errors import NotFound
from email_gateway.store.database import Database
from email_gateway.store.inbox import InboxMail, add_inbox_mail, get_inbox_mail, list_inbox_mails
from tests.makers import SEALED

pytestmark = pytest.mark.anyio


def new_mail(tenant_id: uuid.UUID) -> InboxMail:
    return InboxMail(tenant_id, uuid7(), uuid7(), (0, 2), SEALED, 63)


async def test_a_mail_comes_back_as_it_was_kept(db: Database, tenant_id: uuid.UUID) -> None:
    mail = new_mail(tenant_id)
    await add_inbox_mail(db, mail)
    assert await get_inbox_mail(db, tenant_id, mail.inbox_id) == mail


async def test_another_tenants_mail_is_not_found(db: Database, tenant_id: uuid.UUID) -> None:
    mail = new_mail(tenant_id)
    await add_inbox_mail(db, mail)
    with pytest.raises(NotFound):
        await get_inbox_mail(db, uuid.uuid4(), mail.inbox_id)
    assert not await list_inbox_mails(db, uuid.uuid4(), limit=10)


async def test_pages_run_from_the_newest_to_the_oldest(db: Database, tenant_id: uuid.UUID) -> None:
    mails = [new_mail(tenant_id) for _ in range(5)]
    for mail in mails:
        await add_inbox_mail(db, mail)
    newest_first = sorted((mail.inbox_id for mail in mails), reverse=True)
    first = [entry.inbox_id for entry in await list_inbox_mails(db, tenant_id, limit=3)]
    second = [entry.inbox_id for entry in await list_inbox_mails(db, tenant_id, limit=3, after=first[-1])]
    assert first + second == newest_first
