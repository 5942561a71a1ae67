"""The rotation function's counterpart: a server that answers as the gateway would and remembers what it was asked."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROOT = {"root_id": "00112233445566778899aabbccddeeff", "state": "pending", "data_keys": 3}


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Told:
    """An answer: what is not bytes goes out as JSON."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def problem(status: int, code: str, detail: str) -> Told:
    """Return an error as RFC 9457 has it."""
    return Told(status, {"type": "about:blank", "status": status, "code": code, "detail": detail})


@dataclass
class RecordingGateway:
    """`next_answers` are given first, one for each request, then 200; `asked` is every request."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    next_answers: list[Told] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]

    def answer(self, asked: Asked) -> Told:
        self.asked.append(asked)
        return self.next_answers.pop(0) if self.next_answers else Told(200, ROOT)


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; the standard library would print a traceback."""


@contextmanager
def recording_gateway(tls: ssl.SSLContext | None = None) -> Iterator[RecordingGateway]:
    """Run one on a free port of loopback, over TLS when there is a context for it."""
    gateway = RecordingGateway()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            told = gateway.answer(Asked(self.command, self.path, headers, json.loads(sent) if sent else None))
            body = told.body if isinstance(told.body, bytes) else json.dumps(told.body).encode()
            self.send_response(told.status)
            for name, value in {**told.headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _reply  # noqa: N815  (the names that http.server looks for)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (as in http.server)
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    gateway.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
