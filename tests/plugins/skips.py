"""Skips tests whose programs are missing, names every skip at the end, and lets none pass in CI."""

import os

import pytest

from tests.plugins.system_packages import PACKAGES, find_program

skipped: dict[str, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*programs): the test drives these programs; skipped where one is missing")


@pytest.hookimpl(tryfirst=True)  # before any fixture starts something
def pytest_runtest_setup(item: pytest.Item) -> None:
    for program in (name for mark in item.iter_markers("needs") for name in mark.args):
        if program not in PACKAGES:
            pytest.fail(f"needs {program!r}, which tests/plugins/system_packages.py lacks", pytrace=False)
        if find_program(program) is None:
            pytest.skip(f"needs {program} (Debian package {PACKAGES[program]})")


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        skipped[report.nodeid] = _reason(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        skipped[report.nodeid] = _reason(report)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    return where[2].removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)


def _is_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if skipped and _is_ci() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not skipped:
        return
    verdict = ", and CI allows none" if _is_ci() else ""
    terminalreporter.section(f"{len(skipped)} skipped{verdict}", red=_is_ci(), yellow=not _is_ci())
    for nodeid, reason in sorted(skipped.items()):
        terminalreporter.line(f"{nodeid}: {reason}")
