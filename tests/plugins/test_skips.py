"""The plugin in a pytest of its own: skips by need, names at the end, and no green in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins import system_packages

ROOT = Path(__file__).parents[2]
PASSES = "def test_passes() -> None: ...\n"
SKIPS = "import pytest\ndef test_skips() -> None: pytest.skip('no moon tonight')\n"
FAILS_AS_EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test_fails() -> None: raise ValueError\n"


def run(folder: Path, content: str, *, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(content)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.plugins.skips",
        "-c",
        os.devnull,
        "--strict-markers",
        folder,
    ]
    environment = {**os.environ, "CI": ci}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_skip_is_named_with_its_reason_and_passes_on_a_contributors_machine(tmp_path: Path) -> None:
    done = run(tmp_path, SKIPS, ci="")
    assert done.returncode == 0
    assert "test_it.py::test_skips: no moon tonight" in done.stdout


def test_a_skip_fails_in_ci(tmp_path: Path) -> None:
    done = run(tmp_path, SKIPS + PASSES, ci="true")
    assert done.returncode == 1
    assert "1 skipped, and CI allows none" in done.stdout


def test_a_skipped_file_fails_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(PASSES)
    done = run(tmp_path, "import pytest\npytest.importorskip('no_such_module')\n" + PASSES, ci="true")
    assert done.returncode == 1
    assert "no_such_module" in done.stdout


@pytest.mark.parametrize("content", [PASSES, FAILS_AS_EXPECTED])
def test_without_skips_ci_passes(tmp_path: Path, content: str) -> None:
    done = run(tmp_path, content, ci="true")
    assert done.returncode == 0, done.stdout
    assert "CI allows none" not in done.stdout


def test_a_need_of_an_unknown_program_is_a_mistake(tmp_path: Path) -> None:
    done = run(tmp_path, f"import pytest\n@pytest.mark.needs('abacus')\n{PASSES}", ci="")
    assert done.returncode not in (0, 1)
    assert "abacus" in done.stdout + done.stderr


def test_a_missing_program_skips_with_its_package(tmp_path: Path) -> None:
    content = (
        "import pytest\nfrom tests.plugins import system_packages\n"
        "system_packages.SEARCH_PATH = '/nonexistent'\n"
        f"@pytest.mark.needs('smtp-sink')\n{PASSES}"
    )
    done = run(tmp_path, content, ci="")
    assert done.returncode == 0
    assert "test_passes: needs smtp-sink (Debian package postfix)" in done.stdout


def test_programs_are_found_by_name_or_missed_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system_packages.find_program("sh") is not None
    monkeypatch.setattr(system_packages, "SEARCH_PATH", "/nonexistent")
    assert system_packages.missing_packages() == ["chromium", "postfix", "redis-server"]
    with pytest.raises(LookupError, match="Debian package postfix"):
        system_packages.get_program("smtp-sink")
