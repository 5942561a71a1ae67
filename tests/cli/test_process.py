import json
import os
import subprocess
import sys

import pytest

from email_gateway.cli.process import receive

# In a process of its own: `receive` ties it to its parent's life.
RECEIVE = """
import sys
from email_gateway.cli.process import receive
from email_gateway.errors import OperatorError
try:
    print(dict(receive(int(sys.argv[1]))))
except OperatorError as error:
    print(error)
"""


def test_without_a_parent_nothing_is_handed() -> None:
    assert receive(None) == {}


@pytest.mark.parametrize("text", ["", '{"parent": 1', "[]", '{"parent": 1}'])
def test_half_a_message_means_that_the_parent_died(text: str) -> None:
    assert "ended before" in _run_with_pipe(RECEIVE, text)


def test_a_message_of_another_parent_is_refused() -> None:
    assert "gone" in _run_with_pipe(RECEIVE, json.dumps({"parent": 1, "settings": {}}))


def test_what_the_parent_hands_over_arrives() -> None:
    message = {"parent": os.getpid(), "settings": {"DATABASE_URL": "postgresql://somewhere"}}
    assert "postgresql://somewhere" in _run_with_pipe(RECEIVE, json.dumps(message))


def _run_with_pipe(script: str, text: str) -> str:
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(reading)],
            pass_fds=(reading,),
            check=True,
            capture_output=True,
            text=True,
        )
    finally:
        os.close(reading)
    return done.stdout
