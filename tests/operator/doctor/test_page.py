"""docs/doctor.md: its commands run as they stand, and it knows every check."""

import os
import re
import sys
from pathlib import Path

import anyio
import pytest

from tests.moto_server import AWS_ENVIRONMENT, REGION
from tests.operator.doctor.stand import PASSWORD, USER, Stand
from tests.plugins.secrets_manager import VALUES

pytestmark = [pytest.mark.anyio, pytest.mark.needs("redis-server")]

PAGE = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
ROWS = re.findall(r"^\| ([a-z -]+) \| ", PAGE.partition("## The checks")[2].partition("\n## ")[0], re.MULTILINE)
# Those that a good set-up on one machine does not show.
ELSEWHERE = {"aws", "imds", "ses", "checklist"}


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_of_the_page_runs_as_it_stands(stand: Stand, tmp_path: Path, command: str) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.write_text(stand.authority.pem())
    environ = {
        **AWS_ENVIRONMENT,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "APP_ENV": "production",
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": stand.aws.url,
        "SECRETS_PREFIX": stand.aws.prefix,
        "SSL_CERT_FILE": str(authorities),
        "TRANSPORT": "smtp",
    }
    done = await anyio.run_process(["sh", "-ec", command], env=environ, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout.decode()
    assert not done.stderr
    for secret in (*VALUES.values(), PASSWORD, USER):
        assert secret.encode() not in done.stdout


async def test_the_page_has_a_row_for_every_check_and_none_for_others(stand: Stand) -> None:
    report = await stand.look(is_production=True)
    assert [row for row in ROWS if row != "check" and row not in ELSEWHERE] == list(
        dict.fromkeys(finding.check for finding in report.findings if finding.check not in ELSEWHERE)
    )
    assert set(ROWS) >= ELSEWHERE
