"""Whole gateways for flow tests: real processes that log at DEBUG, where the marks are searched."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from bench.gateway import Gateway, running_logged
from email_gateway.store.database import Database
from tests.flow.caller import Caller
from tests.flow.smarthost import Smarthost, smarthost_running
from tests.plugins.marks import Watch

Run = Callable[..., AbstractContextManager[Gateway]]


@pytest.fixture(scope="session")
def run(watch: Watch) -> Run:
    """Start PostgreSQL and these parts of a gateway, as `bench.gateway.running` does, under watch."""

    @contextlib.contextmanager
    def run_watched(*parts: str, **settings: str) -> Iterator[Gateway]:
        with running_logged(watch.folder, *parts, **{"LOG_LEVEL": "DEBUG", **settings}) as gateway:
            for name, value in gateway.secrets.items():
                watch.add(name, value)
            yield gateway

    return run_watched


@pytest.fixture(scope="module")
def smarthost() -> Iterator[Smarthost]:
    with smarthost_running() as smarthost:
        yield smarthost


@pytest.fixture(scope="module")
def gateway(run: Run, smarthost: Smarthost) -> Iterator[Gateway]:
    """A gateway that delivers to the smarthost."""
    with run("api", "worker", TRANSPORT="smtp", SMTP_URL=smarthost.url) as gateway:
        yield gateway


@pytest.fixture
async def caller(gateway: Gateway) -> AsyncIterator[Caller]:
    caller = Caller(gateway)
    yield caller
    await caller.close()


@pytest.fixture
async def db(gateway: Gateway) -> AsyncIterator[Database]:
    """The gateway's database, for looking and for moving its clock."""
    database = await Database.connect(gateway.postgres.url, pool_size=1)
    yield database
    await database.close()
