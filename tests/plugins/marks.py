"""Collects what is logged during the whole test run, with DEBUG on, and searches it at the end.

A mark that stands for personal data, or a secret that some process was given, fails the session
wherever it turns up: in a line of this process, or of a gateway that a test had started.
"""

import functools
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from email_gateway.observe import configure_logging
from tests.marks import MARK, find_marks, unfold

FLOW = "flow"  # the folder of the tests that start whole gateways
OWN_OUTPUT = "pytest.log"


class Watch:
    """The collected logs, and what must not stand in them.

    `folder` takes one file for each process; whoever starts one also says what it was given to hide.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="email-gateway-test-logs-"))
        self._watched = {MARK: "a mark"}

    def add(self, name: str, *values: str) -> None:
        """Let no log hold these values; a report calls them `name`."""
        self._watched.update((value, name) for value in values if value)

    def keep(self, name: str, text: str) -> None:
        """Add text to the file of this name: what a process said to a test that listened itself."""
        with (self.folder / name).open("a") as file:
            file.write(text + "\n")

    def search(self) -> list[str]:
        """Return `file:line: what, in which encoding` for everything that leaked; never the text itself."""
        return [
            f"{self.folder}/{file.name}:{line}: {self._watched[mark]}, {encoding}"
            for file in self._files()
            for line, mark, encoding in _leaks(file.read_bytes(), list(self._watched))
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


class Collector:
    """The session's side: keeps what pytest captured, searches at the end, decides."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._ran_flows = False
        self._leaks: list[str] = []
        self._is_worth_keeping = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._ran_flows |= report.when == "call" and FLOW in Path(report.fspath).parts
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


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Collector(session_watch()))


def pytest_runtest_logstart() -> None:
    """Let this process log as one with LOG_LEVEL=DEBUG would; the test before may have changed that."""
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    configure_logging("json", "DEBUG")
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks  # pytest has its own


@pytest.fixture(scope="session")
def watch() -> Watch:
    """Where processes that a test starts leave their logs, and where it says what those must not hold."""
    return session_watch()
