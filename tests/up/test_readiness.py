import json
import socket

import pytest

from email_gateway.up.readiness import Readiness
from email_gateway.up.signals import StopSignals


def answer(listener: socket.socket, status: str, body: object) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        text = json.dumps(body)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())


@pytest.mark.parametrize(
    ("status", "body", "is_ready"),
    [
        ("200 OK", {"status": "healthy"}, True),
        ("200 OK", {"status": "degraded"}, True),
        ("503 Service Unavailable", {"status": "unhealthy"}, False),
        ("200 OK", {"status": "unhealthy"}, False),
        ("200 OK", ["of another program"], False),
        ("200 OK", {}, False),
    ],
)
def test_ready_is_what_accepts_mail(status: str, body: object, is_ready: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, StopSignals() as signals:
        readiness = Readiness(*listener.getsockname())
        assert not readiness.ask(signals, 0)
        answer(listener, status, body)
        assert readiness.ask(signals, 10) is is_ready


def test_a_question_that_nobody_takes_stays_asked_until_someone_serves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, StopSignals() as signals:
        readiness = Readiness(*listener.getsockname())
        assert [readiness.ask(signals, 0) for _ in range(3)] == [False] * 3
        answer(listener, "200 OK", {"status": "healthy"})
        assert readiness.ask(signals, 10)


def test_a_connection_that_breaks_is_asked_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, StopSignals() as signals:
        readiness = Readiness(*listener.getsockname())
        readiness.ask(signals, 0)
        listener.accept()[0].close()
        assert not readiness.ask(signals, 10)
        readiness.ask(signals, 0)
        answer(listener, "200 OK", {"status": "healthy"})
        assert readiness.ask(signals, 10)
        readiness.close()
