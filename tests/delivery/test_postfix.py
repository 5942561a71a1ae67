"""Mail to Postfix and to its smtp-sink: programs of other people, which take every mail once and whole."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import smtp
from bench.gateway import free_port
from email_gateway.delivery.outgoing import OutgoingMail
from email_gateway.delivery.smarthost import SmtpTransport
from email_gateway.delivery.target import parse_smtp_url
from email_gateway.mail.deliveries import Verdict
from tests.delivery.attempting import Recorder, outgoing
from tests.plugins.system_packages import get_program

pytestmark = [pytest.mark.anyio, pytest.mark.needs("smtp-sink")]

AWKWARD = (
    b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n",
    b"Subject: ends\r\n\r\n\r\n.\r\n\r\n",
    b"Subject: long\r\n\r\n" + b"x" * 998 + b"\r\n",
    b"Subject: larger than one write\r\n\r\n" + (b"." + b"y" * 70 + b"\r\n") * 3000,
)
COUNT = 100


def mails() -> list[OutgoingMail]:
    """Mails of each kind to one to five recipients, told apart by a number."""
    return [
        outgoing(
            *(f"person{number}.{place}@example.net" for place in range(number % 5 + 1)),
            raw=b"X-Number: %d\r\n" % number + AWKWARD[number % len(AWKWARD)],
        )
        for number in range(COUNT)
    ]


@contextmanager
def keeping_sink(folder: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """An smtp-sink that keeps each message in a file; its port and its process."""
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    folder.chmod(0o777)
    with subprocess.Popen(
        [get_program("smtp-sink"), *options, *user, "-d", "%M.", f"127.0.0.1:{port}", "64"], cwd=folder
    ) as sink:
        time.sleep(0.2)  # it says nothing when it listens
        try:
            yield port, sink
        finally:
            sink.kill()


async def send_all(port: int, sent: list[OutgoingMail]) -> None:
    target = parse_smtp_url(f"smtp://127.0.0.1:{port}?tls=none")
    transport = SmtpTransport(lambda: target)
    outcomes = await asyncio.gather(*(transport.send(mail, Recorder()) for mail in sent))
    await transport.close()
    assert {outcome.verdict for each in outcomes for outcome in each} == {Verdict.DELIVERED}


def contents_of(folder: Path) -> list[bytes]:
    """Each message that smtp-sink kept, with bare line feeds; it writes lines of its own before and an empty one behind."""
    dumps = [path.read_bytes() for path in folder.iterdir()]
    return sorted(dump[dump.index(b"\nX-Number: ") + 1 :].removesuffix(b"\n") for dump in dumps)


@pytest.mark.parametrize("options", [(), ("-p",)], ids=["pipelined", "in turn"])
async def test_postfixs_sink_gets_every_mail_once_and_whole(tmp_path: Path, options: tuple[str, ...]) -> None:
    sent = mails()
    with keeping_sink(tmp_path, *options) as (port, _):
        await send_all(port, sent)
    assert contents_of(tmp_path) == sorted(mail.raw.replace(b"\r\n", b"\n") for mail in sent)


@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix is started by root")
def test_postfix_as_debian_sets_it_up_gets_every_mail_once_and_whole(tmp_path: Path) -> None:
    sent = mails()
    with keeping_sink(tmp_path, "-M", str(COUNT)) as (sink_port, sink), smtp.postfix(sink_port) as port:
        asyncio.run(send_all(port, sent))
        sink.wait(timeout=120)  # it ends with the last one
    kept = [content.partition(b"\n\n") for content in contents_of(tmp_path)]
    assert {head.splitlines()[0] for head, _, _ in kept} == {b"X-Number: %d" % number for number in range(COUNT)}
    bodies = sorted(mail.raw.replace(b"\r\n", b"\n").partition(b"\n\n")[2] for mail in sent)
    assert sorted(body for _, _, body in kept) == bodies  # of the head, Postfix adds what it misses
