"""The steps of a plan: carried out while something moves on a terminal, and shown as a table or as JSON."""

from collections.abc import Iterable

from email_gateway.cli.printing import print_table, say
from email_gateway.cli.secrets.account import showing
from email_gateway.operator.making import State, Step, carry_out

FOR_PEOPLE = (State.DIFFERS, State.WAITS, State.YOURS)


def make_all(title: str, steps: Iterable[Step], *, quiet: bool) -> None:
    """Make what is missing; when that stops half-way, show what was made: it stays made."""
    done: list[Step] = []
    with showing("making", quiet=quiet) as show:

        def report(step: Step) -> None:
            done.append(step)
            show(f"{step.what} {step.name}")

        try:
            carry_out(steps, report)
        except BaseException:
            if not quiet:
                print_steps(title, done, is_done=True)
            raise


def print_steps(title: str, steps: Iterable[Step], *, is_done: bool) -> None:
    """Print a plan, or what came of it."""
    # What people are to do stands below: a command that a table breaks over lines cannot be copied.
    rows = [
        (step.what, step.name, _word(step, is_done=is_done), step.note if step.state not in FOR_PEOPLE else "see below")
        for step in steps
    ]
    print_table(title, ["what", "name", "state", ""], rows)
    for step in steps:
        if step.state in FOR_PEOPLE:
            say(f"{step.what} {step.name}: {step.note}")


def as_plain(steps: Iterable[Step], *, is_done: bool) -> list[dict[str, str]]:
    """Return the steps for JSON."""
    return [
        {"what": step.what, "name": step.name, "state": _word(step, is_done=is_done), "note": step.note}
        for step in steps
    ]


def _word(step: Step, *, is_done: bool) -> str:
    if step.make is None:
        return step.state
    return "made" if is_done else "to be made"
