"""Seven rotations under load, as `make rotations` makes thirty-one: the same promises, but for latency and seconds."""

from dataclasses import replace

import pytest

from bench.rotations.acts import SHORT_ORDER, acts_of
from bench.rotations.promises import promises_of
from bench.rotations.running import Plan, Report, run
from tests.plugins.marks import Watch


@pytest.fixture(scope="module")
def report(watch: Watch) -> Report:
    # Within how many seconds every process follows, or refuses a revoked key, is for `make rotations` to judge; here other tests run beside it.
    acts = [replace(act, within=60.0) for act in acts_of(SHORT_ORDER)]
    plan = Plan(acts, seconds=25, rate=60, workers=1, is_hurried=True, revoked_within=60)
    return run(plan, watch.folder)


def test_secrets_rotate_under_load_with_no_failed_request_and_no_unreadable_row(report: Report) -> None:
    broken = [f"{promise.title}: {promise.figure}" for promise in promises_of(report) if not promise.is_kept]
    assert not broken
    assert [done.title for done in report.done] == [act.title for act in acts_of(SHORT_ORDER)]


def test_the_load_was_of_every_kind_and_sealed_values_of_every_field_were_opened(report: Report) -> None:
    assert set(report.traffic["kinds"]) == {"send", "replay", "read", "list", "search"}
    assert all(counts["opened"] > 0 for counts in report.opened.values())
    assert report.read_back["read"] == report.opened["message.content"]["opened"]
    assert report.revoked > 0
