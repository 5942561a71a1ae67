"""Runs the tests side by side: how many workers `-n auto` means, and what `-n` gives each of them.

A file stays in one worker, together with what its tests share, and those that take longest begin
first: whichever began last would keep every other worker waiting.
"""

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.plugins.marks import is_worker

# Most of a run is waiting, for clocks and for processes that start: one more keeps the cores busy.
BEYOND_CORES = 1
LONG = ("histories", "flow", "up", "dashboard")  # the folders of the files that take longest, in this order


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Take no worker for a single file: it would not be parted, and workers take seconds to start."""
    files = {argument.partition("::")[0] for argument in config.args}
    if len(files) == 1 and files.pop().endswith(".py"):
        return 0
    return len(os.sched_getaffinity(0)) + BEYOND_CORES


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    if config.getoption("dist") != "load":  # which is what `-n` means alone
        return None
    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_worker(config):
        items.sort(key=lambda item: LONG.index(room) if (room := item.path.parent.name) in LONG else len(LONG))
