from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from email_gateway.store.database import Database
from tests.operator.doctor.stand import Stand, good_stand
from tests.plugins.marks import Watch
from tests.plugins.secrets_manager import Aws


@pytest.fixture
async def stand(aws: Aws, db: Database, database_url: str, tmp_path: Path, watch: Watch) -> AsyncIterator[Stand]:
    """Everything in order."""
    async with good_stand(aws, db, database_url, tmp_path, watch) as stand:
        yield stand
