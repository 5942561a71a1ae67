"""The pictures of the keys page: the steps of a rotation, and the lives of root keys side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from email_gateway.dashboard.key_figures import KeySnapshot
from email_gateway.dashboard.rendering import show_brief, show_length, show_short
from email_gateway.store.keys import StoredRoot
from email_gateway.vault.retirement import RETIRING_LASTS
from email_gateway.vault.status import RootStatus

WIDTH = 1000  # of a strip; its height is the style sheet's
LEAST_SPAN = 6.0  # a moment of a long life must still be seen
MOST_ROOTS = 8
# By the first step that is not done, once the new root key is active.
TITLES = {
    1: "A new root key does not open every data key",
    3: "A new root key is being taken up",
    4: "The last rotation is complete; the old root key waits to be retired",
}
# Right after the first start even a second is much of a life.
LEAST_TIME = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a rotation; `state` is done, now or ahead."""

    name: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """The newest rotation: where it is, in a sentence and step by step."""

    title: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a root key's life, in thousandths of the strip; `state` is pending, active or retiring."""

    state: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Life:
    """A root key, and its life beside the others'."""

    status: RootStatus
    spans: tuple[Span, ...]

    @property
    def name(self) -> str:
        return self.status.root.root_id.hex()


@dataclass(frozen=True, slots=True)
class Lives:
    """Root keys, the youngest first, on one axis of time; `hidden` are older ones that are not drawn."""

    began_at: datetime
    lives: tuple[Life, ...]
    hidden: int


def draw_rotation(snapshot: KeySnapshot) -> Rotation | None:
    """Return the newest rotation's steps, or None where there has been none: one root key since the beginning."""
    roots = snapshot.keys.roots
    subject = _newest(roots)
    if subject is None or len(roots) == 1:
        return None
    root, live = subject.root, snapshot.keys.live_keys
    is_active = root.state == "active"
    holding = sum(is_active and snapshot.has_active_root(each) for each in snapshot.instances)
    old = [each.root for each in roots if each.root.state == "retiring"]
    verified = f", opened again {show_brief(root.verified_at)}" if root.verified_at else ""
    waits = "waits for the label AWSCURRENT"
    stages = (
        ("New value stored", True, f"version {show_short(root.key_version_id)} of the key"),
        ("Data keys wrapped", subject.wraps >= live, f"{subject.wraps} of {live}{verified}"),
        ("Root key active", is_active, show_brief(root.activated_at) if is_active and root.activated_at else waits),
        ("Held by every process", holding == len(snapshot.instances) > 0, f"{holding} of {len(snapshot.instances)}"),
        (
            "Old root key retired",
            is_active and not old,
            _when_retired(old, snapshot.at) if is_active else "a week later",
        ),
    )
    first_open = next((at for at, (_, is_done, _) in enumerate(stages) if not is_done), len(stages))
    steps = tuple(
        Step(name, "done" if at < first_open else "now" if at == first_open else "ahead", detail)
        for at, (name, _, detail) in enumerate(stages)
    )
    return Rotation(_title(first_open, is_active=is_active), steps)


def draw_lives(snapshot: KeySnapshot) -> Lives:
    """Lay the lives of root keys out side by side, from the first that is drawn until now."""
    newest = sorted(snapshot.keys.roots, key=lambda each: _born(each.root), reverse=True)
    drawn = newest[:MOST_ROOTS]
    began_at = min((_born(each.root) for each in drawn), default=snapshot.at)
    whole = max(snapshot.at - began_at, LEAST_TIME)
    lives = tuple(Life(each, _spans(each.root, began_at, whole, snapshot.at)) for each in drawn)
    return Lives(began_at, lives, len(newest) - len(drawn))


def _newest(roots: Sequence[RootStatus]) -> RootStatus | None:
    """Return the root key that a rotation brings in, else the one that the last brought."""
    by_state = {each.root.state: each for each in roots}
    return by_state.get("pending") or by_state.get("active")


def _title(first_open: int, *, is_active: bool) -> str:
    if not is_active:
        return "A rotation is under way"
    return TITLES.get(first_open, "The last rotation is complete")


def _when_retired(old: Sequence[StoredRoot], at: datetime) -> str:
    if not old:
        return "its wraps are deleted"
    due_in = max((each.retiring_at or each.created_at) for each in old) + RETIRING_LASTS - at
    return f"may be in {show_length(due_in)}" if due_in > timedelta(0) else "may be now"


def _born(root: StoredRoot) -> datetime:
    return min(moment for moment in (root.created_at, root.activated_at) if moment is not None)


def _spans(root: StoredRoot, began_at: datetime, whole: timedelta, now: datetime) -> tuple[Span, ...]:
    """Return the parts of a life in their order: what was never active has none of that."""
    ended_at = root.retired_at or now
    active_until = root.retiring_at or ended_at
    parts = [
        ("pending", root.created_at, root.activated_at or active_until),
        ("active", root.activated_at, active_until),
        ("retiring", root.retiring_at, ended_at),
    ]
    spans = []
    for state, begins, ends in parts:
        if begins is not None and ends > begins:
            x = WIDTH * ((begins - began_at) / whole)
            width = max(LEAST_SPAN, WIDTH * ((ends - begins) / whole))
            spans.append(Span(state, round(min(x, WIDTH - width), 2), round(min(width, WIDTH), 2)))
    return tuple(spans)
