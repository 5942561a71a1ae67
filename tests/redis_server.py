"""A real Redis on a loopback port."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.plugins.system_packages import get_program

PATIENCE_SECONDS = 10.0


@contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run a server that keeps nothing, with these options too; yields its URL, without a password, and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder), *options]
    process = subprocess.Popen([get_program("redis-server"), *given], stdout=subprocess.DEVNULL)
    try:
        _wait_until_it_answers(port)
        yield f"redis://127.0.0.1:{port}/0", process
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            if connection.recv(64):  # +PONG, or -NOAUTH
                return
        time.sleep(0.02)
    raise AssertionError("Redis did not start")
