"""The mistakes of one request, collected so that its sender learns of all of them at once."""

from collections.abc import Callable
from typing import TypeVar

from email_gateway.errors import Fault
from email_gateway.mail.encoding import InvalidValue

T = TypeVar("T")


class Findings:
    """The mistakes of one request; `at` is where its message stands in the body."""

    def __init__(self, at: str = "") -> None:
        self._at = at
        self.faults: list[Fault] = []

    def add(self, pointer: str, detail: str, *, is_missing: bool = False) -> None:
        """Note a mistake."""
        self.faults.append(Fault(self._at + pointer, detail, is_missing))

    def read(self, pointer: str, parse: Callable[[], T]) -> T | None:
        """Return what `parse` makes of a value, or note what it says against it."""
        try:
            return parse()
        except InvalidValue as error:
            self.add(pointer, str(error))
            return None
