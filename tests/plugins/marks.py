"""Collects what is logged during the whole test run, with DEBUG on, and searches it at the end.

A mark that stands for personal data, or a secret that some process was given, fails the session
wherever it turns up: in a line of this process, or of a gateway that a test had started. Under
pytest-xdist its workers write into one folder, and their controller searches it.
"""

import functools
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from email_gateway.observe import configure_logging
from tests.marks import MARK, find_marks, unfold

FLOW = "flow"  # the folder of the tests that start whole gateways
OWN_OUTPUT = "pytest.log"
FOLDER = "folder of the logs"  # what the controller tells its workers
WATCHED = "what no log may hold"  # and they tell it


class Watch:
    """The collected logs, and what must not stand in them.

    `folder` takes one file for each process; whoever starts one also says what it was given to hide.
    `watched` tells what each hidden value is called.
    """

    def __init__(self) -> None:
        self.watched = {MARK: "a mark"}

    @functools.cached_property
    def folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="email-gateway-test-logs-"))

    def add(self, name: str, *values: str) -> None:
        """Let no log hold these values; a report calls them `name`."""
        self.watched.update((value, name) for value in values if value)

    def keep(self, name: str, text: str) -> None:
        """Add text to the file of this name: what a process said to a test that listened itself."""
        # Without a buffer it is one write, and what another worker adds at the same time cannot part a mark.
        with (self.folder / name).open("ab", buffering=0) as file:
            file.write(f"{text}\n".encode())

    def search(self) -> list[str]:
        """Return `file:line: what, in which encoding` for everything that leaked; never the text itself."""
        return [
            f"{self.folder}/{file.name}:{line}: {self.watched[mark]}, {encoding}"
            for file in self._files()
            for line, mark, encoding in _leaks(file.read_bytes(), list(self.watched))
        ]

    def heard_debugging(self) -> bool:
        """Tell whether a gateway that a test had started logged a line at DEBUG."""
        return any(b"debug" in file.read_bytes() for file in self._files() if file.name != OWN_OUTPUT)

    def _files(self) -> list[Path]:
        return sorted(file for file in self.folder.iterdir() if file.is_file())


def _leaks(log: bytes, marks: list[str]) -> Iterator[tuple[str, str, str]]:
    found = find_marks(log, marks)
    for finding in found:
        yield str(log.count(b"\n", 0, finding.offset) + 1), finding.mark, finding.encoding
    known = {(finding.mark, finding.encoding) for finding in found}
    for finding in find_marks(unfold(log), marks):
        if (finding.mark, finding.encoding) not in known:
            yield "across lines", finding.mark, finding.encoding


class Keeper:
    """Where tests run: logs as they would in production at DEBUG, and keeps what pytest captured."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def pytest_runtest_logstart(self) -> None:
        """Let this process log as one with LOG_LEVEL=DEBUG would; the test before may have changed that."""
        hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
        configure_logging("json", "DEBUG")
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks  # pytest has its own

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":  # it has the sections of setup and call as well
            self._keep(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._keep(report)

    def _keep(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        # "Captured log" is left out: pytest's own handler takes records before they are made safe.
        texts = [text for name, text in report.sections if name.startswith(("Captured stdout", "Captured stderr"))]
        if texts:
            self._watch.keep(OWN_OUTPUT, "\n".join((f"== {report.nodeid}", *texts)))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if is_worker(session.config):
            session.config.workeroutput[WATCHED] = self._watch.watched  # type: ignore[attr-defined]


class Judge:
    """The session's side: searches at the end, when every worker is done, and decides."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._ran_flows = False
        self._leaks: list[str] = []
        self._is_worth_keeping = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[FOLDER] = str(self._watch.folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # A worker that crashed tells nothing; the session has failed by that.
        self._watch.watched.update(getattr(node, "workeroutput", {}).get(WATCHED, {}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._ran_flows |= report.when == "call" and FLOW in Path(report.fspath).parts

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._leaks = self._watch.search()
        if self._ran_flows and not self._watch.heard_debugging():
            self._leaks.append(f"{self._watch.folder}: no gateway's log has a line at DEBUG, so nothing is proven")
        if self._leaks and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._is_worth_keeping = bool(self._leaks) or (self._ran_flows and session.testsfailed > 0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._leaks:
            terminalreporter.section("personal data or secrets in the logs", red=True)
            terminalreporter.write("".join(f"{leak}\n" for leak in self._leaks))
        if self._is_worth_keeping:
            terminalreporter.write_line(f"The logs of every process are kept in {self._watch.folder}")

    def pytest_unconfigure(self) -> None:
        if not self._is_worth_keeping:
            shutil.rmtree(self._watch.folder)


@functools.cache
def session_watch() -> Watch:
    """Return the session's watch, where no fixture can be asked for."""
    return Watch()


def is_worker(config: pytest.Config) -> bool:
    """Tell whether this process runs tests for a controller, which alone sees all of them."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    watch = session_watch()
    if is_worker(config):
        watch.folder = Path(config.workerinput[FOLDER])  # type: ignore[attr-defined]
    else:
        config.pluginmanager.register(Judge(watch))
    if config.getoption("dist", "no") == "no":  # also in workers
        config.pluginmanager.register(Keeper(watch))


@pytest.fixture(scope="session")
def watch() -> Watch:
    """Where processes that a test starts leave their logs, and where it says what those must not hold."""
    return session_watch()
