"""Processes of one fleet: each with secrets of its own from Secrets Manager, over one database."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from email_gateway.fleet import Fleet
from email_gateway.secrets import SecretsService
from email_gateway.secrets.secrets_manager import SecretsManagerSource
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.root_source import SecretsRoots
from tests.plugins.secrets_manager import PATIENT, Aws


@dataclass
class Member:
    """One process: what it holds, and its part in the fleet."""

    secrets: SecretsService
    keyring: Keyring
    fleet: Fleet


Join = Callable[..., Any]


@pytest.fixture
async def join(aws: Aws, db: Database) -> AsyncIterator[Join]:
    """Start a process that joins the fleet; `is_following` False leaves it as deaf as one cut off."""
    async with contextlib.AsyncExitStack() as stack:

        async def join(process: str = "api", *, is_following: bool = True) -> Member:
            settings = aws.settings()
            source = await SecretsManagerSource.open(settings, PATIENT)
            secrets = await SecretsService.start(settings, source=source)
            stack.push_async_callback(secrets.close)
            keyring = await Keyring.start(db, SecretsRoots(secrets))
            fleet = Fleet(db, secrets, keyring, process)
            if is_following:
                await fleet.start()
                stack.push_async_callback(fleet.close)
            else:
                await fleet.look()
            return Member(secrets, keyring, fleet)

        yield join
