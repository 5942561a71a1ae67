"""The locks, the Makefile and the scripts: what a stranger meets first."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in requirements}


def locked(lock: Path) -> set[str]:
    return names([line for line in lock.read_text().splitlines() if re.match(r"[A-Za-z0-9]", line)])


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_package_is_hashed_and_no_index_is_named(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert "index-url" not in text.replace("--no-emit-index-url", "")
    for package in re.split(r"\n(?=[A-Za-z0-9])", text)[1:]:
        assert re.match(r"[A-Za-z0-9_.-]+==\S+", package)
        assert "--hash=sha256:" in package


def test_every_dependency_is_locked() -> None:
    assert names(PROJECT["dependencies"]) <= locked(ROOT / "requirements" / "run.lock")
    assert names(PROJECT["optional-dependencies"]["dev"]) <= locked(ROOT / "requirements" / "dev.lock")


def test_what_contributors_install_is_what_runs() -> None:
    pins = [
        set(re.findall(r"^\S+==\S+", (ROOT / "requirements" / name).read_text(), re.MULTILINE))
        for name in ("run.lock", "dev.lock")
    ]
    assert pins[0] <= pins[1]


def test_make_alone_lists_every_target_meant_for_people() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "run", "dev-setup", "test", "check", "bench", "chaos", "lock", "clean"):
        assert re.search(rf"^  make {target} +\S", listed, re.MULTILINE), target


@pytest.mark.parametrize("script", [*(ROOT / "tools").glob("*.sh"), ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_every_script_parses_and_may_be_executed(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)
