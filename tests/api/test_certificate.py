"""The API with a certificate of its own: TLS and nothing else, and another certificate without a new start."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_der_x509_certificate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from email_gateway.api.certificate import Certificate
from email_gateway.api.server import make_server
from email_gateway.app import find_certificate
from email_gateway.errors import ConfigurationError
from email_gateway.settings import load_settings
from tests.delivery.certificates import Authority
from tests.observe.captured import captured_logs

pytestmark = pytest.mark.anyio

KEYS = {name: f"{name}-{'x' * 40}" for name in ("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")}


async def tell_scheme(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.url.scheme)


async def refuse(_request: Request) -> PlainTextResponse:
    """Answer before the body has come."""
    return PlainTextResponse("too large", 413, headers={"connection": "close"})


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def pem(authority: Authority, tmp_path: Path) -> Path:
    """A file that holds the chain and the key."""
    file = tmp_path / "server.pem"
    file.write_bytes(authority.server_pem())
    return file


@pytest.fixture
async def port(pem: Path) -> AsyncIterator[int]:
    """Where a server listens with it."""
    app: Any = Starlette(routes=[Route("/", tell_scheme), Route("/refuse", refuse, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = make_server(app, certificate=Certificate(pem, pem))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        yield listener.getsockname()[1]
        server.stop()
        await task


async def shown_serial(port: int, authority: Authority) -> int:
    """The serial number of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.trust())
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return load_der_x509_certificate(shown).serial_number


async def test_the_api_speaks_tls_and_knows_it(port: int, authority: Authority) -> None:
    async with httpx.AsyncClient(verify=authority.trust()) as client:
        assert (await client.get(f"https://127.0.0.1:{port}/")).text == "https"


async def test_in_clear_nothing_is_answered(port: int) -> None:
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://127.0.0.1:{port}/")


def test_versions_of_tls_that_are_broken_are_refused(pem: Path) -> None:
    assert Certificate(pem, pem).context.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_an_answer_that_comes_before_the_body_arrives(port: int, authority: Authority) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.trust())
    writer.write(b"POST /refuse HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1000)
    assert b"413" in await asyncio.wait_for(reader.readuntil(b"too large"), 10)
    writer.transport.abort()


async def test_another_certificate_serves_new_connections_without_a_new_start(
    port: int, authority: Authority, pem: Path
) -> None:
    before = await shown_serial(port, authority)
    assert await shown_serial(port, authority) == before
    replace(pem, authority.server_pem())
    async with asyncio.timeout(20):
        while await shown_serial(port, authority) == before:  # noqa: ASYNC110 - the server looks once a second
            await asyncio.sleep(0.1)


def replace(file: Path, content: bytes) -> None:
    beside = file.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(file)


@pytest.mark.parametrize("content", [b"", b"half of a certifi"], ids=["empty", "half written"])
def test_files_that_cannot_serve_leave_the_old_certificate_in_use(pem: Path, content: bytes) -> None:
    certificate = Certificate(pem, pem)
    replace(pem, content)
    with captured_logs() as logs:
        certificate.follow()
        certificate.follow()  # the same files again are not news
    assert len(logs.events("certificate_not_taken")) == 1
    assert certificate.context.get_ca_certs() == []


def test_files_that_are_gone_leave_the_old_certificate_in_use(pem: Path) -> None:
    certificate = Certificate(pem, pem)
    pem.unlink()
    with captured_logs() as logs:
        certificate.follow()
    (told,) = logs.events("certificate_not_taken")
    assert "No such file or directory" in told["error"]


def test_a_key_of_another_certificate_a_missing_and_a_locked_one_are_refused_at_the_start(
    authority: Authority, pem: Path, tmp_path: Path
) -> None:
    other, locked = tmp_path / "other.pem", tmp_path / "locked.pem"
    other.write_bytes(authority.server_pem())
    key = serialization.load_pem_private_key(pem.read_bytes(), None)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"MARK")))
    for chain, private in ((pem, other), (tmp_path / "none.pem", pem), (pem, locked)):
        with pytest.raises(ConfigurationError, match="TLS_CERT_FILE and TLS_KEY_FILE cannot serve"):
            Certificate(chain, private)


def test_the_settings_name_the_files(pem: Path) -> None:
    assert find_certificate(load_settings(KEYS)) is None
    assert find_certificate(load_settings({**KEYS, "TLS_CERT_FILE": str(pem), "TLS_KEY_FILE": str(pem)})) is not None
