"""Decides as IAM does within one account: an explicit deny wins, then any allow, else no.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
Knows the condition operators that our documents use, and fails on others.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Policy = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What is asked for: an action on a resource, with what the condition keys hold then."""

    action: str
    resource: str
    context: Mapping[str, str | list[str]] = field(default_factory=dict)


def is_allowed(request: Request, *policies: Policy) -> bool:
    """Tell whether these policies together, of an identity and of a resource, let the request through."""
    effects = {
        statement["Effect"] for policy in policies for statement in policy["Statement"] if _is_about(statement, request)
    }
    return "Deny" not in effects and "Allow" in effects


def _is_about(statement: Policy, request: Request) -> bool:
    return (
        any(_is_like(request.action.lower(), pattern.lower()) for pattern in _each(statement["Action"]))
        and any(_is_like(request.resource, pattern) for pattern in _each(statement["Resource"]))
        and all(
            _holds(operator, _each(wanted), request.context.get(key))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, wanted: list[str], held: str | list[str] | None) -> bool:
    match operator:
        case "StringEquals":
            return held in wanted
        case "StringLike" | "ArnLike":
            return isinstance(held, str) and any(_is_like(held, pattern) for pattern in wanted)
        case "ArnNotEquals":
            return held not in wanted  # also where the key is absent
        case "ForAllValues:StringEquals":
            return set(_each(held or [])) <= set(wanted)
    raise AssertionError(f"an operator that the evaluator does not know: {operator}")


def _is_like(text: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text) is not None


def _each(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
