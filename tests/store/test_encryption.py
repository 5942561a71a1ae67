"""Connections over TLS: a server that proves who it is, and every one that does not."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from email_gateway.errors import ConfigurationError, DatabaseUnavailable
from email_gateway.store.connecting import prove
from tests.delivery.certificates import Authority
from tests.store.roles import Role
from tests.store.tls_front import TlsFront

pytestmark = pytest.mark.anyio


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def bundle(authority: Authority, tmp_path: Path) -> Path:
    file = tmp_path / "rds-ca.pem"
    file.write_text(authority.pem())
    return file


@pytest.fixture
async def front(database_url: str, authority: Authority) -> AsyncIterator[TlsFront]:
    front = TlsFront(database_url, authority.server())
    await front.open()
    yield front
    await front.close()


def verified(bundle: Path, mode: str = "verify-full") -> str:
    return f"sslmode={mode}&sslrootcert={quote(str(bundle), safe='')}"


async def test_a_server_of_the_named_authority_is_taken(front: TlsFront, role: Role, bundle: Path) -> None:
    await prove(front.over(role.url, verified(bundle)))
    assert front.passed == 1


@pytest.mark.parametrize("fault", ["another authority", "another name", "expired"])
async def test_a_server_that_does_not_prove_itself_is_not_told_the_password(
    database_url: str, role: Role, authority: Authority, bundle: Path, fault: str
) -> None:
    context = {
        "another authority": Authority().server(),
        "another name": authority.server("db.example.com"),
        "expired": authority.server(expired=True),
    }[fault]
    front = TlsFront(database_url, context)
    await front.open()
    with pytest.raises(DatabaseUnavailable, match="SSLCertVerificationError"):
        await prove(front.over(role.url, verified(bundle)))
    await front.close()


async def test_a_server_without_tls_is_not_taken(role: Role, bundle: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await prove(f"{role.url.partition('?')[0]}?{verified(bundle)}")


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "no certificate"])
@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
async def test_an_authority_that_cannot_be_read_is_named(
    front: TlsFront, role: Role, tmp_path: Path, content: str | None, mode: str
) -> None:
    file = tmp_path / "no.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match="sslrootcert=FILE") as caught:
        await prove(front.over(role.url, verified(file, mode)))
    assert role.name not in str(caught.value)


async def test_without_a_named_authority_the_usual_place_is_asked(
    front: TlsFront, role: Role, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    with pytest.raises(ConfigurationError, match="sslrootcert=FILE"):
        await prove(front.over(role.url, "sslmode=verify-full"))
    move(bundle, tmp_path / ".postgresql" / "root.crt")
    await prove(front.over(role.url, "sslmode=verify-full"))


def move(file: Path, to: Path) -> None:
    to.parent.mkdir()
    file.rename(to)
