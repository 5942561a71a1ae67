"""Redis over TLS: a server that proves who it is, and those that do not."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from email_gateway.limits import Limits
from email_gateway.limits.probing import probe_redis
from email_gateway.limits.shared_rate import SharedRate
from tests.delivery.certificates import Authority
from tests.redis_server import running_redis

pytestmark = [pytest.mark.anyio, pytest.mark.needs("redis-server")]

PATIENT = 30.0
PASSWORD = "right"


@dataclass(frozen=True)
class Encrypted:
    """A Redis that speaks TLS with a password, and the file of its authority."""

    port: int
    bundle: Path

    def url(self, host: str = "127.0.0.1", *, knows_authority: bool = True) -> str:
        named = f"?ssl_ca_certs={quote(str(self.bundle))}" if knows_authority else ""
        return f"rediss://:{PASSWORD}@{host}:{self.port}/0{named}"


@pytest.fixture
def encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Encrypted]:
    for place in ("email_gateway.limits.link", "email_gateway.limits.shared_rate"):
        monkeypatch.setattr(f"{place}.REDIS_TIMEOUT_SECONDS", 10.0)
    authority = Authority()
    server, bundle = tmp_path / "server.pem", tmp_path / "ca.pem"
    server.write_bytes(authority.server_pem())
    bundle.write_text(authority.pem())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--tls-port", str(port), "--tls-auth-clients", "no", "--requirepass", PASSWORD]
    for name, file in (("cert", server), ("key", server), ("ca-cert", bundle)):
        options += [f"--tls-{name}-file", str(file)]
    with running_redis(tmp_path, *options):
        yield Encrypted(port, bundle)


async def test_limits_and_rates_are_counted_over_tls(encrypted: Encrypted) -> None:
    limits, rate = Limits(encrypted.url()), SharedRate(encrypted.url())
    assert await limits.redis_health() == "ok"
    for _ in range(10):
        await limits.add_admin_failure("203.0.113.9")
    elsewhere = Limits(encrypted.url())
    assert await elsewhere.admin_wait_seconds("203.0.113.9") > 0
    assert await rate.reserve("lane", 10.0, 1) is not None
    assert (await probe_redis(encrypted.url(), PATIENT)).problem is None
    for opened in (limits, elsewhere, rate):
        await opened.close()


@pytest.mark.parametrize(
    ("host", "knows_authority"), [("127.0.0.1", False), ("localhost", True)], ids=["another authority", "another name"]
)
async def test_a_server_that_does_not_prove_itself_is_not_used(
    encrypted: Encrypted, host: str, knows_authority: bool
) -> None:
    url = encrypted.url(host, knows_authority=knows_authority)
    limits = Limits(url)
    assert await limits.redis_health() == "unavailable"
    assert (await probe_redis(url, PATIENT)).problem == "unreachable"
    await limits.close()
