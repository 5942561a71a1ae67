"""An HTTP proxy in front of moto's server that answers wrongly on request, as AWS and networks do."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

EVERY = "*"
WAIT_SECONDS = 20.0


class Fault(StrEnum):
    """What may go wrong with one answer."""

    THROTTLED = "throttled"  # HTTP 400 in this protocol
    SERVER_ERROR = "server_error"
    BAD_GATEWAY = "bad_gateway"  # a 502 with a web page, from something in between
    DENIED = "denied"
    NO_KMS = "no_kms"
    EXPIRED = "expired"
    NOT_FOUND = "not_found"
    DELETED = "deleted"
    HANG = "hang"
    DRIP = "drip"  # one byte at a time, faster than any read timeout
    RESET = "reset"
    PAGE_NOT_FOUND = "page_not_found"  # a 404 that is not Secrets Manager's
    HTML = "html"
    EMPTY = "empty"
    JSON_LIST = "json_list"
    WRONG_TYPES = "wrong_types"
    NO_VERSION = "no_version"
    BINARY = "binary"
    ANOTHER_SECRET = "another_secret"
    TOO_SHORT = "too_short"
    WRONG_ALPHABET = "wrong_alphabet"
    SLOW = "slow"  # right, `latency` later


FAILING = tuple(fault for fault in Fault if fault is not Fault.SLOW)

ERRORS = {
    Fault.THROTTLED: (400, "ThrottlingException"),
    Fault.SERVER_ERROR: (500, "InternalServiceError"),
    Fault.DENIED: (400, "AccessDeniedException"),
    Fault.NO_KMS: (400, "DecryptionFailure"),
    Fault.EXPIRED: (400, "ExpiredTokenException"),
    Fault.NOT_FOUND: (400, "ResourceNotFoundException"),
    Fault.DELETED: (400, "InvalidRequestException"),
}
PAGE = b"<html><body>This is not the API that you asked for.</body></html>"
PAGES = {Fault.BAD_GATEWAY: 502, Fault.PAGE_NOT_FOUND: 404, Fault.HTML: 200}
CHANGES: dict[Fault, dict[str, Any]] = {
    Fault.WRONG_TYPES: {"SecretString": {"a": 1}, "VersionId": 7, "Name": []},
    Fault.NO_VERSION: {"VersionId": None},
    Fault.BINARY: {"SecretString": None, "SecretBinary": "c2VjcmV0"},
    Fault.ANOTHER_SECRET: {"Name": "email-gateway/another"},
    Fault.TOO_SHORT: {"SecretString": "tooshort"},
    Fault.WRONG_ALPHABET: {"SecretString": "bell\x07 and null \x00 and so on and on and on"},
}


Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


class FaultProxy:
    """`faults` maps a secret's name without prefix, or EVERY, to what goes wrong; all may change at any time.

    `requests` are the bodies that came; other services than Secrets Manager are passed on unseen. `latency` is what SLOW adds, in seconds. With `meet` set to
    a number, answers wait until so many requests are under way at once; `have_met` tells whether
    they were.

    `answers` stand in for what the emulator cannot do, by action (by "GET /path" where a service has paths): each
    takes the request and returns status and body. `after` is told every action that has been done, before its caller is.
    """

    def __init__(self, upstream: str) -> None:
        self.faults: dict[str, Fault] = {}
        self.requests: list[dict[str, Any]] = []
        self.answers: dict[str, Answer] = {}
        self.after: Callable[[str], None] = lambda _: None
        self.latency = 0.05
        self.clock_ahead = 0.0  # what its Date headers are ahead of the truth, in seconds
        self.meet = 0
        self.have_met = threading.Event()
        self.closing = threading.Event()
        self._upstream = urlsplit(upstream)
        self._under_way = 0
        self._lock = threading.Lock()

    def fault_of(self, secret_id: str) -> Fault | None:
        return self.faults.get(secret_id.rsplit("/", 1)[-1], self.faults.get(EVERY))

    def arrive(self, request: dict[str, Any]) -> None:
        with self._lock:
            self.requests.append(request)
            self._under_way += 1
            if self._under_way >= self.meet:
                self.have_met.set()
        if self.meet:
            self.have_met.wait(WAIT_SECONDS)

    def leave(self) -> None:
        with self._lock:
            self._under_way -= 1

    def forward(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        assert self._upstream.hostname is not None
        connection = http.client.HTTPConnection(self._upstream.hostname, self._upstream.port, timeout=WAIT_SECONDS)
        try:
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes, and the second would wait 40 ms for an ACK

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.proxy.clock_ahead)

    def do_GET(self) -> None:
        answer = self.proxy.answers.get(f"GET {self.path}")
        status, body = answer({}) if answer else (404, {})
        self._send(status, json.dumps(body).encode(), "application/json")

    def do_POST(self) -> None:
        announced = int(self.headers.get("Content-Length", 0))
        if len(body := self.rfile.read(announced)) < announced:
            self.close_connection = True  # the client died over it
            return None
        # Secrets Manager, KMS and CloudTrail speak JSON; STS and IAM send forms.
        target = self.headers.get("X-Amz-Target", "")
        request = json.loads(body) if target else dict(parse_qsl(body.decode()))
        action = target.rpartition(".")[2] or request.get("Action", "")
        if not target.startswith("secretsmanager.") and action not in self.proxy.answers:
            return self._answer(None, body, action)
        self.proxy.arrive(request)
        try:
            if action in self.proxy.answers:
                status, answer = self.proxy.answers[action](request)
                self._send(status, json.dumps(answer).encode())
            else:
                self._answer(self.proxy.fault_of(str(request.get("SecretId"))), body, action)
        except OSError:
            self.close_connection = True  # the client has given up
        finally:
            self.proxy.leave()
        return None

    def _answer(self, fault: Fault | None, body: bytes, action: str) -> None:
        if fault in ERRORS:
            status, code = ERRORS[fault]
            return self._send(status, json.dumps({"__type": code, "message": f"{code} said the proxy"}).encode())
        if fault in PAGES:
            return self._send(PAGES[fault], PAGE, "text/html")
        match fault:
            case Fault.HANG:
                self.proxy.closing.wait(WAIT_SECONDS)
                self.close_connection = True
                return None
            case Fault.RESET:
                self.close_connection = True
                return None
            case Fault.DRIP:
                return self._drip()
            case Fault.EMPTY:
                return self._send(200, b"{}")
            case Fault.JSON_LIST:
                return self._send(200, b'["a", 1]')
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        status, answer = self.proxy.forward(body, headers)
        self.proxy.after(action)
        if fault is Fault.SLOW:
            self.proxy.closing.wait(self.proxy.latency)
        if fault not in CHANGES or status != 200:
            return self._send(status, answer)
        changed = {**json.loads(answer), **CHANGES[fault]}
        return self._send(200, json.dumps({name: v for name, v in changed.items() if v is not None}).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/x-amz-json-1.1") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not self.proxy.closing.wait(0.05):
            self.wfile.write(b" ")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name it overrides)
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # The default of 5 is less than the requests of one start, and a refused SYN comes back after a second.
    request_queue_size = 128


@contextmanager
def fault_proxy(upstream: str) -> Iterator[tuple[FaultProxy, str]]:
    """Run a proxy on a free port; yields it and its URL."""
    proxy = FaultProxy(upstream)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        proxy.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
