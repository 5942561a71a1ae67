"""The function dies after every single call it makes; Secrets Manager starts again from the first step."""

import itertools

import pytest

from email_gateway.aws.gateway import send_once
from tests.aws.rotating import SERVED, STEPS, Died, Mortal, Rotating

# What each step makes: to Secrets Manager, and one to the gateway except in createSecret.
CALLS = {"createSecret": 2, "setSecret": 3, "testSecret": 5, "finishSecret": 8}


def die_after(calls: int, rotating: Rotating, step: str, name: str, version_id: str) -> bool:
    """Take a step that dies after so many calls; tells whether it did, and did not finish before."""
    mortal = Mortal(calls)
    try:
        rotating.take(step, name, version_id, client=mortal.client(rotating.client), send=mortal.counting(send_once))
    except Died:
        return True
    return False


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("step", STEPS)
def test_after_any_crash_the_repeated_steps_end_well_with_one_new_value(
    rotating: Rotating, step: str, name: str
) -> None:
    for calls in itertools.count(1):
        version_id = rotating.begin(name)
        for earlier in STEPS[: STEPS.index(step)]:
            rotating.take(earlier, name, version_id)
        if not die_after(calls, rotating, step, name, version_id):
            break
        rotating.take("createSecret", name, version_id)
        value = rotating.value(name, "AWSCURRENT" if is_current(rotating, name, version_id) else "AWSPENDING")
        rotating.rotate(name, version_id)

        rotating.assert_rotated(name, version_id)
        assert rotating.value(name, "AWSCURRENT", version_id) == value
        forget_rotation(rotating, name, version_id)
    # Every call was the last one once; fewer would mean that something was left out.
    assert calls - 1 == CALLS[step]


def is_current(rotating: Rotating, name: str, version_id: str) -> bool:
    return "AWSCURRENT" in rotating.labels(name)[version_id]


def forget_rotation(rotating: Rotating, name: str, version_id: str) -> None:
    """Let the version that is current be the one that the next rotation begins with."""
    kept = rotating.kept(name)
    kept.versions = {version_id: {**kept.versions[version_id], "version_stages": ["AWSCURRENT"]}}
    rotating.versions[name] = version_id


def test_a_value_that_was_stored_before_the_crash_is_kept(rotating: Rotating) -> None:
    version_id = rotating.begin("encryption-key")
    assert die_after(2, rotating, "createSecret", "encryption-key", version_id)
    stored = rotating.value("encryption-key", "AWSPENDING", version_id)
    rotating.rotate("encryption-key", version_id)
    assert rotating.value("encryption-key", "AWSCURRENT", version_id) == stored
