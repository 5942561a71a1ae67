import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from email_gateway.cli.calling import Gateway
from email_gateway.cli.exits import CommandFailed
from email_gateway.errors import Forbidden, Unauthorized


class Answers(BaseHTTPRequestHandler):
    """Answers each path with the status and body that the test has set for it, and keeps what was asked."""

    prepared: ClassVar[dict[str, tuple[int, object]]] = {}
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        status, body = self.prepared[self.path]
        self.send_response(status)
        if status == 302:
            self.send_header("Location", str(body))
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    Answers.prepared.clear()
    Answers.asked.clear()
    running = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    thread.join()
    running.server_close()


def test_the_path_of_the_interface_is_added_where_it_is_missing(server: str) -> None:
    Answers.prepared["/v1/emails/1"] = (200, {"id": "1"})
    assert Gateway(server, "key").get("/emails/1") == {"id": "1"}
    assert Gateway(f"{server}/v1/", "key").get("/emails/1") == {"id": "1"}
    assert Answers.asked[0] == ("/v1/emails/1", "Bearer key")


def test_a_refusal_names_each_mistake(server: str) -> None:
    faults = [{"pointer": "/to", "detail": "add this field: it is required"}]
    Answers.prepared["/v1/emails"] = (422, {"detail": "the body is not valid", "errors": faults})
    with pytest.raises(CommandFailed, match=r"(?s)the body is not valid.*/to: add this field"):
        Gateway(server, "key").post("/emails", {})


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (403, Forbidden)])
def test_a_refused_key_keeps_its_kind(server: str, status: int, kind: type[Exception]) -> None:
    Answers.prepared["/v1/emails"] = (status, {"detail": "no"})
    with pytest.raises(kind):
        Gateway(server, "key").get("/emails")


def test_a_domain_that_is_not_verified_names_the_command_that_adds_it(server: str) -> None:
    Answers.prepared["/v1/emails"] = (403, {"detail": "the domain is not verified", "code": "domain_not_verified"})
    with pytest.raises(CommandFailed, match="not verified") as failed:
        Gateway(server, "key").post("/emails", {})
    assert "domains add" in str(failed.value.next_step)


def test_the_key_is_not_taken_to_another_place(server: str) -> None:
    Answers.prepared["/v1/emails"] = (302, f"{server}/elsewhere")
    Answers.prepared["/elsewhere"] = (200, {})
    with pytest.raises(CommandFailed):
        Gateway(server, "key").get("/emails")
    assert [path for path, _ in Answers.asked] == ["/v1/emails"]


def test_health_is_told_also_when_it_is_bad(server: str) -> None:
    Answers.prepared["/v1/health/readyz"] = (503, {"status": "unhealthy", "checks": {"database": "unavailable"}})
    assert Gateway(server).health()["status"] == "unhealthy"


def test_a_gateway_that_does_not_answer_is_unreachable_and_an_error_says_what_to_do() -> None:
    gateway = Gateway("http://127.0.0.1:9", "key")  # discard: nobody listens there
    assert gateway.health() == {"status": "unreachable"}
    with pytest.raises(CommandFailed, match="does not answer") as failed:
        gateway.get("/emails")
    assert failed.value.next_step is not None


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8025", "ftp://localhost"])
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(CommandFailed, match="must look like"):
        Gateway(url)
