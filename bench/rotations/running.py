"""One run from the first request to the last promise."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.rotations.acts import Act, Done, admin_revoking, rotate
from bench.rotations.operator import ADMIN_KEY, REVOKED_WITHIN_SECONDS, ROOT_SECRETS, Operator
from bench.rotations.signing import begin_signing
from bench.rotations.stand import FIRST_TENANTS, Callers, Stand, calling, log_files, standing, wait_until
from tests.marks import MARK, find_marks

WARM_UP_SECONDS = 3.0
TRIED_AT_ONCE = 8
STARTED_WITHIN_SECONDS = 30.0

Say = Callable[[str, int, int], None]  # what is being done, requests answered, requests failed


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how fast, which rotations, on what."""

    acts: Sequence[Act]
    seconds: float
    rate: float
    workers: int = 2
    is_hurried: bool = False
    drained_within: float = 90.0
    revoked_within: float = REVOKED_WITHIN_SECONDS

    @property
    def tenants(self) -> int:
        return 4 + int(self.seconds // 5)


@dataclass
class Report:
    """What came of a run; `traffic` is the callers' own tally."""

    plan: Plan
    done: list[Done] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    traffic: dict[str, Any] = field(default_factory=dict)
    opened: dict[str, dict[str, int]] = field(default_factory=dict)
    read_back: dict[str, int] = field(default_factory=dict)
    difference: int = 0
    unfinished: int = 0
    revocations: int = 0
    revoked: int = 0
    refused_after: list[float] = field(default_factory=list)
    refusal_connections: int = 0
    is_refused_after_restart: bool = False
    leaks: list[str] = field(default_factory=list)
    log_bytes: int = 0


def run(plan: Plan, logs: Path, say: Say = lambda _what, _done, _failed: None) -> Report:
    """Put the stand up, load it, rotate, and look at everything afterwards."""
    report = Report(plan)
    with standing(logs, workers=plan.workers, tenants=plan.tenants) as stand:
        operator = Operator(stand, is_hurried=plan.is_hurried, revoked_within=plan.revoked_within)
        operator.look()
        operator.take_new_admin_key()
        _await_fleet(operator)
        begin_signing(operator, FIRST_TENANTS)
        with calling(stand, plan.rate, plan.seconds) as callers:
            _rotate_under_load(plan, operator, callers, report, say)
            _judge(operator, callers, report, say)
        report.moments, report.kills = operator.moments, operator.kills
        report.revoked, report.refused_after = len(operator.revoked), operator.refused_after
        report.revocations = sum(act.run is admin_revoking for act in plan.acts)
    # After the end of every process: until then they may still say something.
    say("searching the logs", callers.done, callers.failed)
    _search_logs(stand, report)
    return report


def _rotate_under_load(plan: Plan, operator: Operator, callers: Callers, report: Report, say: Say) -> None:
    callers.load()
    began = time.monotonic() + WARM_UP_SECONDS
    for turn, act in enumerate(plan.acts):
        while time.monotonic() < began + turn * plan.seconds / len(plan.acts):
            say("between rotations", callers.done, callers.failed)
            time.sleep(0.2)
        say(f"{turn + 1} of {len(plan.acts)}: {act.title}", callers.done, callers.failed)
        report.done.append(rotate(operator, act))
    while time.monotonic() < began + plan.seconds:
        say("after the last rotation", callers.done, callers.failed)
        time.sleep(0.2)
    report.traffic = callers.stop()


def _judge(operator: Operator, callers: Callers, report: Report, say: Say) -> None:
    stand = operator.stand

    def tell(what: str) -> None:
        say(what, callers.done, callers.failed)

    tell("waiting for the queue to drain")
    statement = "SELECT count(*) FROM delivery WHERE state IN ('queued', 'sending')"
    wait_until(lambda: not stand.sql(statement)[0][0], report.plan.drained_within, every=0.5)
    report.unfinished = stand.sql(statement)[0][0]
    tell("starting every process again")
    stand.restart_all()
    _await_fleet(operator)
    tell("trying the revoked admin keys")
    chunks = [operator.revoked[at : at + TRIED_AT_ONCE] for at in range(0, len(operator.revoked), TRIED_AT_ONCE)]
    refusals = [operator.await_refusal(chunk, 0.0) for chunk in chunks]
    report.is_refused_after_restart = all(moment is not None for moment, _ in refusals)
    report.refusal_connections = sum(connections for _, connections in refusals)
    tell("opening every sealed value in a new process")
    report.opened = stand.open_everything()
    tell("reading every mail back")
    report.read_back = callers.read_back()
    report.difference = stand.sql("SELECT coalesce(sum(abs(difference)), 0)::bigint FROM conservation")[0][0]


def _await_fleet(operator: Operator) -> None:
    if not operator.await_versions((*ROOT_SECRETS, ADMIN_KEY), STARTED_WITHIN_SECONDS):
        raise RuntimeError(f"the fleet was not complete within {STARTED_WITHIN_SECONDS:.0f} s of its start")


def _search_logs(stand: Stand, report: Report) -> None:
    hidden = {**stand.hidden, MARK: "personal data"}
    for file in log_files(stand):
        content = file.read_bytes()
        report.log_bytes += len(content)
        for found in find_marks(content, hidden):
            line = content.count(b"\n", 0, found.offset) + 1
            report.leaks.append(f"{file.name}:{line}: {hidden[found.mark]}, {found.encoding}")
