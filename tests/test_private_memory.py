"""What a process of ours keeps from cores and from others."""

import subprocess
import sys


def test_memory_goes_to_no_core_file_and_no_other_process() -> None:
    script = (
        "import ctypes, resource; from email_gateway.private_memory import keep_memory_private\n"
        "keep_memory_private()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    )
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert told == "(0, 0) 0\n"
