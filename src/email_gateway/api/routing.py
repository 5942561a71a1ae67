"""Routes as data: the same table routes, authenticates, documents, and is walked by the tests."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from email_gateway.api.calls import Call, Reply
from email_gateway.api.context import ApiContext
from email_gateway.api.problems import MethodNotAllowed
from email_gateway.errors import NotFound

Handler = Callable[[ApiContext, Call], Awaitable[Reply]]
_PARAMETER = re.compile(r"\{(\w+)\}")


class Access(Enum):
    """Who may call a route."""

    PUBLIC = "public"
    SENDING = "any API key"
    FULL = "an API key with full access"
    ADMIN = "the admin key"
    PROBE = "the admin key, also one that is staged"
    ROTATION = "the admin key or the rotation function's key"


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of a route's query or a header that it reads, for the documentation."""

    name: str
    description: str
    schema: dict[str, Any]
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path: who may call it, what it reads, what it answers, and what does the work."""

    method: str
    path: str
    handler: Handler
    access: Access
    summary: str
    answer: Any
    status: int = 200
    body: Any = None
    is_body_optional: bool = False
    parameters: tuple[Query, ...] = ()
    may_conflict: bool = False

    @property
    def path_parameters(self) -> list[str]:
        return _PARAMETER.findall(self.path)


class RouteTable:
    """Finds the route of a request: paths without parameters in one step, the few others in turn."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._exact: dict[str, dict[str, Route]] = {}
        templates: dict[str, dict[str, Route]] = {}
        for route in routes:
            table = templates if route.path_parameters else self._exact
            table.setdefault(route.path, {})[route.method] = route
        self._templates = [(_pattern(path), methods) for path, methods in templates.items()]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route and the values of its path; raises NotFound or MethodNotAllowed."""
        if (methods := self._exact.get(path)) is not None:
            return _choose(methods, method), {}
        for pattern, methods in self._templates:
            if match := pattern.fullmatch(path):
                return _choose(methods, method), match.groupdict()
        raise NotFound("no such path")


def _pattern(path: str) -> re.Pattern[str]:
    pieces = _PARAMETER.split(path)
    return re.compile(
        "".join(f"(?P<{piece}>[^/]+)" if index % 2 else re.escape(piece) for index, piece in enumerate(pieces))
    )


def _choose(methods: dict[str, Route], method: str) -> Route:
    route = methods.get("GET" if method == "HEAD" else method)
    if route is None:
        raise MethodNotAllowed(", ".join(sorted(methods)))
    return route
