"""docs/emails.md is for application developers: every snippet on it runs as it stands, in its order."""

import os
import re
import sys
from pathlib import Path

import anyio
import pytest

from tests.api.house import Served

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "emails.md"


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


async def run(command: list[str], api: Served, folder: Path) -> str:
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GATEWAY": f"{api.url}/v1",
        "API_KEY": api.acme_key,
    }
    done = await anyio.run_process(command, env=environ, cwd=folder, check=False)
    assert done.returncode == 0, f"{done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout.decode()


async def test_every_command_of_the_page_runs_and_says_what_the_page_says(api: Served, tmp_path: Path) -> None:
    blocks = snippets("sh")
    told = await run(["/bin/sh", "-eu", "-c", "\n".join(blocks)], api, tmp_path)
    promised = re.findall(r"\| field \w+ +# (.+)$", "\n".join(blocks), re.MULTILINE)
    assert promised
    lines = told.splitlines()
    for words in promised:  # in this order
        assert words in lines, told
        lines = lines[lines.index(words) + 1 :]


@pytest.mark.parametrize("snippet", snippets("python"))
async def test_every_program_of_the_page_runs(api: Served, tmp_path: Path, snippet: str) -> None:
    await run([sys.executable, "-c", snippet], api, tmp_path)
