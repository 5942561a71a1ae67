from datetime import datetime

import pytest

from email_gateway.dashboard.key_figures import KeySnapshot
from email_gateway.dashboard.key_pictures import MOST_ROOTS, WIDTH, draw_lives, draw_rotation
from tests.dashboard.key_scenes import NEW, NOW, OLD, ago, instance, root, snapshot

RETIRING = root(OLD, "retiring", activated_at=ago(days=30), retiring_at=ago(days=1))
TAKEN_OVER = root(NEW, "active", created_at=ago(days=1), activated_at=ago(days=1))
RETIRED = root(OLD, "retired", wraps=0, activated_at=ago(days=30), retiring_at=ago(days=9), retired_at=ago(days=1))
PENDING = root(NEW, "pending", created_at=ago(minutes=1), activated_at=None, verified_at=ago(seconds=30))
HOLDS_NEW = instance(active_root=NEW.hex())


def test_the_first_root_key_is_no_rotation() -> None:
    assert draw_rotation(snapshot(root(OLD, "active"))) is None
    assert draw_rotation(snapshot()) is None


@pytest.mark.parametrize(
    ("seen", "title", "states"),
    [
        (snapshot(root(OLD, "active"), PENDING), "A rotation is under way", "done done now ahead ahead"),
        (
            snapshot(root(OLD, "active"), root(NEW, "pending", wraps=1, activated_at=None)),
            "A rotation is under way",
            "done now ahead ahead ahead",
        ),
        (
            snapshot(RETIRING, root(NEW, "active", wraps=3), instances=[HOLDS_NEW]),
            "A new root key does not open every data key",
            "done now ahead ahead ahead",
        ),
        (
            snapshot(RETIRING, TAKEN_OVER, instances=[HOLDS_NEW, instance("worker")]),
            "A new root key is being taken up",
            "done done done now ahead",
        ),
        (
            snapshot(RETIRING, TAKEN_OVER, instances=[HOLDS_NEW]),
            "The last rotation is complete; the old root key waits to be retired",
            "done done done done now",
        ),
        (
            snapshot(RETIRED, TAKEN_OVER, instances=[HOLDS_NEW]),
            "The last rotation is complete",
            "done done done done done",
        ),
    ],
    ids=["staged", "half wrapped", "not every key", "not everybody", "everybody", "retired"],
)
def test_a_rotation_stands_at_its_first_step_that_is_not_done(seen: KeySnapshot, title: str, states: str) -> None:
    rotation = draw_rotation(seen)
    assert rotation is not None
    assert rotation.title == title
    assert [step.state for step in rotation.steps] == states.split()


def test_each_step_says_what_is_seen_of_it() -> None:
    rotation = draw_rotation(snapshot(RETIRING, TAKEN_OVER, instances=[HOLDS_NEW, instance("worker")]))
    assert rotation is not None
    details = [step.detail for step in rotation.steps]
    assert details == ["version 11111111 of the key", "4 of 4", "28 Nov, 20:00:00", "1 of 2", "may be in 6 d 0 h"]
    staged = draw_rotation(snapshot(root(OLD, "active"), PENDING))
    assert staged is not None
    assert staged.steps[1].detail == "4 of 4, opened again 29 Nov, 19:59:30"
    assert [step.detail for step in staged.steps[2:]] == ["waits for the label AWSCURRENT", "0 of 0", "a week later"]


@pytest.mark.parametrize(("since", "told"), [(ago(days=8), "may be now"), (ago(days=1), "may be in 6 d 0 h")])
def test_the_old_root_key_may_go_seven_days_after_another_took_over(since: datetime, told: str) -> None:
    old = root(OLD, "retiring", retiring_at=since)
    rotation = draw_rotation(snapshot(old, TAKEN_OVER, instances=[HOLDS_NEW]))
    assert rotation is not None
    assert rotation.steps[-1].detail == told


def test_lives_stand_side_by_side_on_one_axis_the_youngest_first() -> None:
    drawn = draw_lives(snapshot(RETIRING, TAKEN_OVER))
    assert drawn.began_at == ago(days=30)
    assert [life.name for life in drawn.lives] == [NEW.hex(), OLD.hex()]
    young, old = drawn.lives
    assert [(span.state, span.x, span.width) for span in old.spans] == [
        ("active", 0.0, 966.67),
        ("retiring", 966.67, 33.33),
    ]
    assert [(span.state, span.x) for span in young.spans] == [("active", 966.67)]


def test_a_life_that_has_just_begun_is_seen_and_stays_within_the_strip() -> None:
    moment = root(NEW, "pending", created_at=NOW, activated_at=None)
    drawn = draw_lives(
        snapshot(root(OLD, "active"), root(NEW, "active", created_at=ago(seconds=1), activated_at=ago(seconds=1)))
    )
    [span] = drawn.lives[0].spans
    assert span.width == 6.0
    assert span.x + span.width <= WIDTH
    assert draw_lives(snapshot(moment)).lives[0].spans == ()


def test_a_life_that_ended_ends_in_the_picture() -> None:
    [old] = (life for life in draw_lives(snapshot(RETIRED, TAKEN_OVER)).lives if life.name == OLD.hex())
    assert [span.state for span in old.spans] == ["active", "retiring"]
    assert round(old.spans[-1].x + old.spans[-1].width) == 967  # a day before now


def test_the_oldest_of_many_root_keys_are_counted_and_not_drawn() -> None:
    many = [
        root(bytes([number]) * 16, "retired", created_at=ago(days=number), activated_at=ago(days=number))
        for number in range(1, MOST_ROOTS + 4)
    ]
    drawn = draw_lives(snapshot(*many))
    assert (len(drawn.lives), drawn.hidden) == (MOST_ROOTS, 3)
    assert draw_lives(snapshot()).lives == ()
