"""The plugin in a pytest of its own, with and without workers: skips by need, names at the end, and no green in CI."""

import subprocess
from pathlib import Path

import pytest

from tests.plugins import system_packages
from tests.plugins.running import Way, run_pytest, ways

PASSES = "def test_passes() -> None: ...\n"
SKIPS = "import pytest\ndef test_skips() -> None: pytest.skip('no moon tonight')\n"
FAILS_AS_EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test_fails() -> None: raise ValueError\n"


def run(folder: Path, way: Way, content: str, *, ci: str) -> "subprocess.CompletedProcess[str]":
    (folder / "test_it.py").write_text(content)
    return run_pytest("tests.plugins.skips", (*way, "--strict-markers"), folder, CI=ci)


@ways
def test_a_skip_is_named_with_its_reason_and_passes_on_a_contributors_machine(tmp_path: Path, way: Way) -> None:
    done = run(tmp_path, way, SKIPS, ci="")
    assert done.returncode == 0
    assert "test_it.py::test_skips: no moon tonight" in done.stdout


@ways
def test_a_skip_fails_in_ci(tmp_path: Path, way: Way) -> None:
    done = run(tmp_path, way, SKIPS + PASSES, ci="true")
    assert done.returncode == 1
    assert "1 skipped, and CI allows none" in done.stdout


@ways
def test_a_skipped_file_fails_in_ci(tmp_path: Path, way: Way) -> None:
    (tmp_path / "test_other.py").write_text(PASSES)
    done = run(tmp_path, way, "import pytest\npytest.importorskip('no_such_module')\n" + PASSES, ci="true")
    assert done.returncode == 1
    assert "no_such_module" in done.stdout


@ways
@pytest.mark.parametrize("content", [PASSES, FAILS_AS_EXPECTED])
def test_without_skips_ci_passes(tmp_path: Path, way: Way, content: str) -> None:
    done = run(tmp_path, way, content, ci="true")
    assert done.returncode == 0, done.stdout
    assert "CI allows none" not in done.stdout


@ways
def test_a_need_of_an_unknown_program_is_a_mistake(tmp_path: Path, way: Way) -> None:
    done = run(tmp_path, way, f"import pytest\n@pytest.mark.needs('abacus')\n{PASSES}", ci="")
    assert done.returncode == 1
    assert "needs 'abacus', which tests/plugins/system_packages.py lacks" in done.stdout


@ways
def test_a_missing_program_skips_with_its_package(tmp_path: Path, way: Way) -> None:
    content = (
        "import pytest\nfrom tests.plugins import system_packages\n"
        "system_packages.SEARCH_PATH = '/nonexistent'\n"
        f"@pytest.mark.needs('smtp-sink')\n{PASSES}"
    )
    done = run(tmp_path, way, content, ci="")
    assert done.returncode == 0
    assert "test_passes: needs smtp-sink (Debian package postfix)" in done.stdout


def test_programs_are_found_by_name_or_missed_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system_packages.find_program("sh") is not None
    monkeypatch.setattr(system_packages, "SEARCH_PATH", "/nonexistent")
    missing = [
        "age",
        "chromium",
        "curl",
        "jq",
        "mmdebstrap",
        "nodejs",
        "npm",
        "opendkim",
        "pgbouncer",
        "postfix",
        "prometheus",
        "redis-server",
        "systemd",
    ]
    assert system_packages.missing_packages() == missing
    with pytest.raises(LookupError, match="Debian package postfix"):
        system_packages.get_program("smtp-sink")
