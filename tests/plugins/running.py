"""A pytest of its own for the tests of our plugins: in one process, or side by side in two workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Way = tuple[str, ...]
ALONE: Way = ()
SIDE_BY_SIDE: Way = ("-p", "xdist.plugin", "-n", "2")

ways = pytest.mark.parametrize("way", [ALONE, SIDE_BY_SIDE], ids=["alone", "side by side"])


def run_pytest(
    plugin: str, options: tuple[str, ...], folder: Path, named: str = "", **environ: str
) -> "subprocess.CompletedProcess[str]":
    """Run the tests of a folder, or of what is named in it, with this plugin of ours and none of others.

    Importing every plugin that is installed takes longer than these tests do.
    """
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            plugin,
            "-c",
            os.devnull,
            f"--rootdir={folder}",
            *options,
            folder / named,
        ],
        cwd=ROOT,
        env={**_outside(), "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def _outside() -> dict[str, str]:
    """The environment without what tells a worker that it is one: this may run in one."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")}
