"""The far end and the peer: Postfix's own smtp-sink, and a Postfix with its default configuration."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.gateway import free_port

SESSIONS = 20
MESSAGE_BYTES = 5000

# What Debian's package would write, in directories of our own, relaying everything to the sink.
# chroot is off, as the libraries of a chroot are copied in by an init script that does not run here.
MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.example.com
mydestination =
local_recipient_maps =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{sink}
maillog_file = {home}/mail.log
maillog_file_prefixes = {home}
"""


def is_installed() -> bool:
    """Tell whether Postfix and its test tools are here."""
    return all(shutil.which(tool) for tool in ("postfix", "smtp-source", "smtp-sink"))


@contextlib.contextmanager
def sink(count: int, *options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run an smtp-sink that exits after `count` messages; yield its port and its process. `options` are its own."""
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        ["smtp-sink", *user, *options, "-M", str(count), f"127.0.0.1:{port}", "1024"], stdout=subprocess.DEVNULL
    )
    time.sleep(0.2)  # it says nothing when it listens, and a probe would count as a session
    try:
        yield port, process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def postfix(sink_port: int) -> Iterator[tuple[int, int]]:
    """Run Postfix as root in a directory of its own; yield the port of its smtpd, and the process id of its master."""
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="email-gateway-postfix-"))
    home.chmod(0o755)
    config = home / "config"
    shutil.copytree("/etc/postfix", config, symlinks=True)
    (home / "queue").mkdir()
    (home / "data").mkdir()
    shutil.chown(home / "data", "postfix")
    (config / "main.cf").write_text(MAIN_CF.format(home=home, sink=sink_port))
    master = [line for line in (config / "master.cf").read_text().splitlines() if line and not line.startswith("#")]
    (config / "master.cf").write_text("\n".join(_service(line, port) for line in master) + "\n")
    run = ["postfix", "-c", str(config)]
    subprocess.run([*run, "start"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield port, int((home / "queue/pid/master.pid").read_text())
    finally:
        subprocess.run([*run, "stop"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(home, ignore_errors=True)


def _service(line: str, port: int) -> str:
    """Move smtpd to our port and every service out of the chroot; leave the rest as Debian has it."""
    if line[0].isspace():
        return line
    fields = line.split(None, 7)
    if fields[0] == "smtp" and fields[1] == "inet":
        fields[0] = f"127.0.0.1:{port}"
    fields[4] = "n"
    return " ".join(fields)


def send(count: int, port: int) -> None:
    """Send `count` messages from smtp-source, until the last was accepted."""
    subprocess.run(
        ["smtp-source", "-s", str(SESSIONS), "-m", str(count), "-l", str(MESSAGE_BYTES), "-d",
         "-f", "billing@example.com", "-t", "person@example.net", f"127.0.0.1:{port}"],
        check=True,
    )  # fmt: skip


def send_through_postfix(count: int) -> tuple[float, float]:
    """Send `count` messages from smtp-source through Postfix to smtp-sink.

    Returns the seconds until the last was accepted and until the last was delivered.
    """
    with sink(count) as (sink_port, receiver), postfix(sink_port) as (port, _):
        started = time.perf_counter()
        send(count, port)
        accepted = time.perf_counter() - started
        receiver.wait(timeout=300)
        return accepted, time.perf_counter() - started
