"""Options that belong together, as one object: several commands choose mail in the same way."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

Command = Callable[..., None]


def taking(kind: type[Any]) -> Callable[[Command], Command]:
    """Give a command the fields of a dataclass as options; it gets them as one object, its first parameter.

    The fields are annotated as Typer's options are, and have defaults.
    """
    hints = get_type_hints(kind, include_extras=True)
    taken = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(kind)
    ]

    def decorate(command: Command) -> Command:
        _, *own = inspect.signature(command).parameters.values()
        parameters = [*taken, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            chosen = kind(**{one.name: given.pop(one.name) for one in taken})
            command(chosen, **given)

        # Typer reads these; `__wrapped__` would show it the command's own.
        del run.__wrapped__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate
