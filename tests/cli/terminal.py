"""A terminal of 80 columns, as a person has one: commands ask there, and draw there."""

import fcntl
import os
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence

ROWS, COLUMNS = 40, 80


def at_terminal(
    *arguments: str, says: bytes = b"", answers: Sequence[tuple[str, str]] = (), **environ: str
) -> tuple[int, str]:
    """Run a command at a terminal on which somebody types `says`; return the exit code and what was shown.

    `answers` are lines that are typed once a question, or its last words with the blank behind, is shown: a hidden one
    throws away what was typed before that blank.
    """
    waiting = list(answers)
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "email_gateway.cli", *arguments],
        env={"PATH": os.environ["PATH"], "TERM": "dumb", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, says)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
            if waiting and shown.decode(errors="replace").endswith(waiting[0][0]):
                os.write(ours, waiting.pop(0)[1].encode() + b"\n")
    except OSError:  # Linux ends a terminal that nobody has open any more with EIO
        pass
    finally:
        os.close(ours)
    return process.wait(60), shown.decode().replace("\r\n", "\n")
