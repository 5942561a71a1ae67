"""The keys in use of one tenant, and the requests that are under way with them."""

import asyncio
from uuid import uuid4

import pytest

from email_gateway.vault.data_keys import FieldKey, IndexKey, make_material
from email_gateway.vault.tenant_keys import TenantKeys, Uses

pytestmark = pytest.mark.anyio

TENANT = uuid4()
TERMS = [("address", 0, b"a@b.example"), ("tax_id", 1, b"52998224725")]


def keys(index_keys: int) -> TenantKeys:
    first, *more = [IndexKey(make_material(), TENANT) for _ in range(index_keys)]
    return TenantKeys(TENANT, FieldKey(make_material(), TENANT), first, tuple(more))


@pytest.mark.parametrize("count", [1, 2])
def test_each_term_is_blinded_under_every_index_key(count: int) -> None:
    held = keys(count)
    assert sorted(held.blind_each(TERMS)) == sorted(
        (key.key_id, field, key.blind(field, kind, form)) for key in held.index_keys for field, kind, form in TERMS
    )
    assert len(held.idempotency_keys(b"order", b"{}")) == count


def test_what_is_searched_is_under_the_active_key_alone() -> None:
    held = keys(2)
    assert held.blind(*TERMS[0]) == held.index_key.blind(*TERMS[0])
    assert held.key_ids == held.field_key.key_id + held.index_key.key_id + held.beside[0].key_id


async def test_waiting_ends_with_the_last_use() -> None:
    uses = Uses()
    await uses.wait()
    with uses:
        waiting = asyncio.create_task(uses.wait())
        with uses:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        assert not uses.are_over
    await waiting
    assert uses.are_over


async def test_a_use_that_fails_has_ended() -> None:
    uses = Uses()
    with pytest.raises(ValueError, match="x"), uses:
        raise ValueError("x")
    assert uses.are_over
