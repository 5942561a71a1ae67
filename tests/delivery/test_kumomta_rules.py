"""Each rule of KumoMTA's classifiers beside ours: a sample, and that we agree or why we differ."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from email_gateway.delivery.replies import Stage, explain, rule
from email_gateway.mail.deliveries import Scope, Verdict
from tests.delivery.kumomta_samples import COMMUNITY, IANA, SAME
from tests.delivery.saying import reply_of

ROOT = Path(__file__).parents[2]


class Sample(NamedTuple):
    """One reply, what KumoMTA calls it, what we call it, and why we differ (empty: we do not)."""

    kind: str
    stage: str
    text: str
    reason: str
    difference: str = ""

    def is_met_by(self, pattern: str) -> bool:
        # One rule is written for the text behind the code.
        return bool(re.search(pattern, self.text) or re.search(pattern, self.text[4:]))


SAMPLES = {
    "iana": [Sample(*row) for row in IANA],
    "community": [Sample(*row) for row in COMMUNITY],
}


def rules() -> Iterator[tuple[str, str, str]]:
    for name in SAMPLES:
        text = (ROOT / "tests" / "vectors" / f"kumomta-replies-{name}.toml").read_text()
        for kind, patterns in tomllib.loads(text)["rules"].items():
            yield from ((name, kind, pattern) for pattern in patterns)


def samples_of(name: str, kind: str, pattern: str) -> list[Sample]:
    return [sample for sample in SAMPLES[name] if sample.kind == kind and sample.is_met_by(pattern)]


def counts() -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {name: Counter() for name in SAMPLES}
    for name, kind, pattern in rules():
        differs = any(sample.difference for sample in samples_of(name, kind, pattern))
        found[name]["differs" if differs else "agrees"] += 1
    return found


@pytest.mark.parametrize(("name", "kind", "pattern"), list(rules()))
def test_every_rule_has_a_sample(name: str, kind: str, pattern: str) -> None:
    assert samples_of(name, kind, pattern)


@pytest.mark.parametrize("sample", [sample for each in SAMPLES.values() for sample in each])
def test_every_sample_is_read_as_stated(sample: Sample) -> None:
    assert explain(Stage(sample.stage), reply_of(sample.text)) == sample.reason


@pytest.mark.parametrize("sample", [sample for each in SAMPLES.values() for sample in each])
def test_a_difference_is_stated_where_there_is_one_and_nowhere_else(sample: Sample) -> None:
    assert (sample.reason in SAME[sample.kind]) is (not sample.difference)


@pytest.mark.parametrize("sample", [sample for each in SAMPLES.values() for sample in each])
def test_nothing_bounces_that_is_not_of_the_recipient_or_the_message(sample: Sample) -> None:
    ruling = rule(Stage(sample.stage), reply_of(sample.text))
    assert ruling.verdict is not Verdict.BOUNCED or ruling.scope in (Scope.RECIPIENT, Scope.MESSAGE)


def test_the_page_states_the_counts() -> None:
    page = (ROOT / "docs" / "replies.md").read_text()
    for name, counted in counts().items():
        line = f"| `{name}` | {counted.total()} | {counted['agrees']} | {counted['differs']} |"
        assert line in page


def test_the_page_states_every_difference() -> None:
    page = (ROOT / "docs" / "replies.md").read_text()
    for samples in SAMPLES.values():
        for sample in samples:
            assert not sample.difference or f"| {sample.kind} | `{sample.reason}` | {sample.difference} |" in page
