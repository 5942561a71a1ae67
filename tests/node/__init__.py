"""Resend's SDK for Node: installed once from the hash-pinned lock, and driven by scripts of the tests."""

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from tests.plugins.system_packages import get_program

FOLDER = Path(__file__).parent
LOCK = FOLDER / "package-lock.json"
INSTALLED = FOLDER / "node_modules" / ".installed"

# Prints what the script returns as JSON; an error of the SDK is an answer like any other.
FRAME = """
import {{ Resend }} from 'resend';
const resend = new Resend(process.env.RESEND_API_KEY);
const answer = await (async () => {{ {script} }})();
console.log(JSON.stringify(answer));
"""


async def run_node(script: str, *, url: str, api_key: str) -> Any:
    """Run a script that may use `resend`, pointed at a gateway at `url`, and return what it returns.

    For tests with the mark needs("node", "npm").
    """
    await anyio.to_thread.run_sync(install)
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "RESEND_BASE_URL": f"{url}/v1", "RESEND_API_KEY": api_key}
    command = [get_program("node"), "--input-type=module", "--eval", FRAME.format(script=script)]
    done = await anyio.run_process(command, env=environ, cwd=FOLDER, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def install() -> None:
    """Install what the lock names, unless that was done; of several at a time one does it."""
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = LOCK.read_text()
        if INSTALLED.exists() and INSTALLED.read_text() == wanted:
            return
        shutil.rmtree(FOLDER / "node_modules", ignore_errors=True)
        command = [get_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        INSTALLED.write_text(wanted)
