import subprocess
import sys

import pytest

from email_gateway.secrets.threads import call_in_thread

pytestmark = pytest.mark.anyio

STUCK_SECONDS = 30.0


async def test_a_call_returns_what_it_returns_and_raises_what_it_raises() -> None:
    assert await call_in_thread(lambda: 7) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await call_in_thread(lambda: int("x"))


def test_a_process_does_not_wait_for_a_call_that_hangs() -> None:
    script = (
        "import asyncio, threading\n"
        "from email_gateway.secrets.threads import call_in_thread\n"
        "async def main():\n"
        "    async with asyncio.timeout(0.01):\n"
        "        await call_in_thread(threading.Event().wait)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, timeout=STUCK_SECONDS)
    assert done.stderr.splitlines()[-1] == b"TimeoutError"
