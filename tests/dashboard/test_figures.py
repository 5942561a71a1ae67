import asyncio

import pytest

from email_gateway.dashboard.figures import Figures
from email_gateway.store.database import Database
from tests.dashboard.house import House, add_message

pytestmark = pytest.mark.anyio


async def test_pages_that_ask_at_once_share_one_count(house: House, db: Database) -> None:
    figures = Figures()
    first, *others = await asyncio.gather(*(figures.read(db) for _ in range(5)))
    assert all(other is first for other in others)


async def test_a_count_is_taken_anew_after_its_time(house: House, db: Database) -> None:
    figures = Figures()
    assert (await figures.read(db)).accepted == 0
    await add_message(house)
    figures._good_until = 0.0
    assert (await figures.read(db)).accepted == 1
