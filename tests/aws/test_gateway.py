import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest

from email_gateway.aws.failures import RotationFailed
from email_gateway.aws.gateway import Answer, Gateway, Patience, Unreachable, parse_gateway_url, send_once
from tests.aws.recording_gateway import ROOT, RecordingGateway, Told, problem, recording_gateway
from tests.aws.rotating import QUICK, everything_said_by
from tests.delivery.certificates import Authority

KEY = "MARK-rotation-key-of-32-characters-and-more"
ADMIN = "MARK-admin-key-of-32-characters-and-more"
VERSION = "3e5c3e60-9f9b-4c53-9d4f-000000000001"


def open_gateway(url: str) -> Gateway:
    return Gateway(url, KEY, patience=QUICK)


def fail(gateway: RecordingGateway, *answers: Told) -> RotationFailed:
    """Stage against these answers, which must end in a failure that tells no key."""
    gateway.next_answers = list(answers)
    with pytest.raises(RotationFailed) as failed:
        open_gateway(gateway.url).stage("encryption-key", VERSION)
    assert "MARK" not in everything_said_by(failed.value)
    return failed.value


@pytest.mark.parametrize("status", [502, 503, 504])
def test_passing_trouble_is_waited_for(gateway: RecordingGateway, status: int) -> None:
    gateway.next_answers = [problem(status, "try_later", "the database is away"), Told(status, b"<html>")]
    open_gateway(gateway.url).stage("encryption-key", VERSION)
    assert len(gateway.asked) == 3


def test_trouble_that_does_not_pass_ends_with_the_last_answer(gateway: RecordingGateway) -> None:
    failed = fail(gateway, *[problem(503, "try_later", "the database is away")] * 9)
    assert (failed.status, failed.code) == (503, "try_later")
    assert "the database is away" in str(failed)
    assert len(gateway.asked) == len(QUICK.pauses) + 1


@pytest.mark.parametrize(("status", "code"), [(401, "missing_api_key"), (409, "rotation_pending"), (500, "tampered")])
def test_what_waiting_does_not_change_is_told_at_once(gateway: RecordingGateway, status: int, code: str) -> None:
    failed = fail(gateway, problem(status, code, "because"))
    assert (failed.status, failed.code) == (status, code)
    assert len(gateway.asked) == 1


def test_a_gateway_that_is_away_is_tried_again_and_named_by_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    timeouts = []

    def send(request: Request, timeout: float) -> Answer:
        timeouts.append(timeout)
        return send_once(request, timeout)

    with pytest.raises(RotationFailed, match=r"cannot be reached \(ConnectionRefusedError\): check GATEWAY_URL"):
        Gateway(f"http://127.0.0.1:{port}", KEY, send=send, patience=QUICK).stage("encryption-key", VERSION)
    assert len(timeouts) == len(QUICK.pauses) + 1
    assert max(timeouts) <= QUICK.call


def test_a_gateway_that_never_answers_is_given_up_within_the_time_for_all_tries() -> None:
    asked = []

    def hang(_request: Request, timeout: float) -> Answer:
        asked.append(timeout)
        time.sleep(timeout)
        raise Unreachable("TimeoutError", is_passing=True)

    patience = Patience(call=0.2, total=0.5, pauses=(0.01,) * 20)
    with pytest.raises(RotationFailed, match="TimeoutError"):
        Gateway("http://127.0.0.1:9", KEY, send=hang, patience=patience).stage("encryption-key", VERSION)
    assert sum(asked) <= patience.total + 0.1  # the last try may begin just before the end


def test_a_silent_server_times_out(gateway: RecordingGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        request = Request(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with pytest.raises(Unreachable) as unreachable:
            send_once(request, 0.2)
    assert (unreachable.value.why, unreachable.value.is_passing) == ("TimeoutError", True)


@pytest.mark.parametrize("answer", [b"", b"MARK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"])
def test_a_broken_answer_is_passing_trouble_and_is_not_quoted(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_once() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        with pytest.raises(Unreachable) as unreachable:
            send_once(Request(f"http://127.0.0.1:{server.getsockname()[1]}/"), 5)
        thread.join()
    assert unreachable.value.is_passing
    assert "MARK" not in everything_said_by(unreachable.value)


def test_a_trusted_certificate_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority()
    trust(authority, monkeypatch, tmp_path)
    with recording_gateway(authority.server()) as gateway:
        open_gateway(gateway.url).stage("encryption-key", VERSION)
    assert len(gateway.asked) == 1


@pytest.mark.parametrize("fault", [{"expired": True}, {"self_signed": True}, {"name": "other.example.com"}])
def test_no_key_is_sent_to_a_server_whose_certificate_is_wrong(
    fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority()
    trust(authority, monkeypatch, tmp_path)
    with (
        recording_gateway(authority.server(**fault)) as gateway,
        pytest.raises(RotationFailed, match="SSLCertVerificationError"),
    ):
        open_gateway(gateway.url).stage("encryption-key", VERSION)
    assert gateway.asked == []


def trust(authority: Authority, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let this process trust the authority as the function's container would be made to."""
    (certificate,) = authority.trust().get_ca_certs(binary_form=True)
    (folder / "authority.pem").write_text(ssl.DER_cert_to_PEM_cert(certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))


@pytest.mark.parametrize("body", [b"<html>MARK</html>", b"", b"[1]", b"\xff", b'"MARK"', b"{" * 5000])
@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_that_is_not_the_gateways_is_no_success(gateway: RecordingGateway, status: int, body: bytes) -> None:
    assert "not the gateway's JSON" in str(fail(gateway, Told(status, body)))


@pytest.mark.parametrize("body", [{}, {"state": "retired"}, {"state": ["pending"]}])
def test_an_answer_without_a_pending_or_active_root_is_no_success(
    gateway: RecordingGateway, body: dict[str, object]
) -> None:
    assert "no pending or active root key" in str(fail(gateway, Told(200, body)))


@pytest.mark.parametrize("status", [204, 206])
def test_only_200_is_a_success(gateway: RecordingGateway, status: int) -> None:
    assert fail(gateway, Told(status, ROOT)).status == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(gateway: RecordingGateway, status: int) -> None:
    with recording_gateway() as elsewhere:
        failed = fail(gateway, Told(status, b"", {"location": f"{elsewhere.url}/admin/keys/rotation/stage"}))
    assert "redirect" in str(failed)
    assert elsewhere.asked == []


def test_a_proxy_of_the_environment_gets_nothing(gateway: RecordingGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    with recording_gateway() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        open_gateway(gateway.url).stage("encryption-key", VERSION)
    assert (len(gateway.asked), proxy.asked) == (1, [])


@pytest.mark.parametrize(
    "told",
    [
        {"code": f"<{KEY}>", "detail": f"wrong key {KEY}"},
        {"code": KEY + " " * 80, "detail": {"key": KEY}},
        {"detail": "\x1b[31m" + KEY},
        {"title": KEY},
    ],
)
def test_a_key_that_is_echoed_is_not_repeated(gateway: RecordingGateway, told: dict[str, object]) -> None:
    failed = fail(gateway, Told(403, told))
    assert str(failed).isprintable()


def test_a_new_admin_key_is_given_time_to_reach_every_node(gateway: RecordingGateway) -> None:
    gateway.next_answers = [problem(401, "missing_api_key", "the admin key is not valid")] * 3
    open_gateway(gateway.url).check_admin_key(ADMIN)
    assert len(gateway.asked) == 4


def test_an_admin_key_that_stays_refused_is_a_failure_without_it(gateway: RecordingGateway) -> None:
    gateway.next_answers = [problem(401, "missing_api_key", f"{ADMIN} is not valid")] * 9
    with pytest.raises(RotationFailed) as failed:
        open_gateway(gateway.url).check_admin_key(ADMIN)
    assert failed.value.status == 401
    assert "MARK" not in everything_said_by(failed.value)


@pytest.mark.parametrize("key", ["", " \n", "MARK\r\nx-admin-key: 1", "MARK key", "MARKé", "\x00MARK"])
def test_a_key_that_fits_no_header_is_refused_without_being_told(gateway: RecordingGateway, key: str) -> None:
    with pytest.raises(RotationFailed, match="visible ASCII") as failed:
        Gateway(gateway.url, key)
    assert "MARK" not in everything_said_by(failed.value)


def test_the_line_end_of_an_editor_is_no_part_of_the_key(gateway: RecordingGateway) -> None:
    Gateway(gateway.url, KEY + "\r\n").complete("encryption-key", VERSION)
    assert gateway.asked[0].headers["x-rotation-key"] == KEY


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://mail.example.com", "https://mail.example.com"),
        ("https://mail.example.com/", "https://mail.example.com"),
        ("https://mail.example.com/v1", "https://mail.example.com"),
        ("https://mail.example.com:8443/v1/", "https://mail.example.com:8443"),
        ("https://example.com/mail/v1", "https://example.com/mail"),
        (" https://mail.example.com\n", "https://mail.example.com"),
        ("http://localhost:8025/v1", "http://localhost:8025"),
        ("http://127.0.0.1:8025", "http://127.0.0.1:8025"),
        ("http://[::1]:8025/", "http://[::1]:8025"),
    ],
)
def test_the_url_is_read_without_v1(given: str, read: str) -> None:
    assert parse_gateway_url(given) == read


@pytest.mark.parametrize(
    "url",
    [
        "", " ", "mail.example.com", "ftp://mail.example.com", "file:///etc/passwd", "https://", "https://:443",
        "http://mail.example.com", "http://10.0.0.1", "http://127.0.0.1.example.com", "http://localhost@example.com",
        "https://ana:MARK@mail.example.com", "https://mail.example.com?MARK", "https://mail.example.com#MARK",
        "https://[::1", "https://mail.example.com:none",
    ],
)  # fmt: skip
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(RotationFailed, match="GATEWAY_URL") as failed:
        parse_gateway_url(url)
    assert "MARK" not in str(failed.value)
