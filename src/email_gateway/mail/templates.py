"""A template and its variables: what may stand in one, and what becomes of it when it is sent.

Logic-less: `{{{NAME}}}` and `{{NAME}}` are both replaced by a value, and nothing else is. In HTML the value is
always escaped, and `html_places` lets a variable stand only where an escaped value stays a value.
"""

import html
import re
from collections.abc import Mapping, Sequence

import msgspec

from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.html_places import check_places

# Resend's limits: variables of a template, characters of a key and of a text, and the integers that JavaScript is sure of.
MAX_VARIABLES = 50
MAX_KEY_CHARACTERS = 50
MAX_TEXT_CHARACTERS = 2000
MAX_NUMBER = 2**53 - 1
# What one message may become: values stand in it as often as the template says.
MAX_RENDERED_BYTES = 1024 * 1024
RESERVED = frozenset(
    {"FIRST_NAME", "LAST_NAME", "EMAIL", "UNSUBSCRIBE_URL", "RESEND_UNSUBSCRIBE_URL", "contact", "this"}
)

Value = str | int | float | bool

_KEY = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_KEY_CHARACTERS}}}")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
PLACEHOLDER = re.compile(r"\{\{\{[ \t]*([A-Za-z0-9_]+)[ \t]*\}\}\}|\{\{[ \t]*([A-Za-z0-9_]+)[ \t]*\}\}")


class Variable(msgspec.Struct, frozen=True, omit_defaults=True):
    """A variable of a template: `kind` is string, number or boolean, `fallback` stands in where no value is given."""

    key: str
    kind: str
    fallback: Value | None = None


class Template(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a template says, sealed as one value: a MessagePack map whose keys never change."""

    html: str
    text: str | None = None
    subject: str | None = None
    sender: str | None = None
    reply_to: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()

    def __repr__(self) -> str:
        return f"Template({len(self.variables)} variables)"


class Rendered(msgspec.Struct, frozen=True):
    """What a template became with the values of one message."""

    html: str
    text: str | None
    subject: str | None

    def __repr__(self) -> str:
        return "Rendered(...)"


def parse_key(key: str) -> str:
    """Return a variable's name, or raise InvalidValue."""
    if not _KEY.fullmatch(key):
        raise InvalidValue(f"name the variable with 1 to {MAX_KEY_CHARACTERS} ASCII letters, digits and underscores")
    if key in RESERVED:
        raise InvalidValue(f"choose another name: {', '.join(sorted(RESERVED))} are reserved")
    return key


def parse_alias(alias: str) -> str:
    """Return a template's second name, or raise InvalidValue. What is shaped like an id is none: it would hide one."""
    if not _ALIAS.fullmatch(alias) or _ID.fullmatch(alias):
        raise InvalidValue(
            "use 1 to 100 ASCII letters, digits, dots, underscores and dashes, and not the form of an id"
        )
    return alias


def parse_value(value: Value, kind: str) -> Value:
    """Return a value that fits its variable's type, or raise InvalidValue. A string may be given as a number."""
    if kind == "boolean":
        if not isinstance(value, bool):
            raise InvalidValue("send true or false")
    elif isinstance(value, bool) or (kind == "number" and isinstance(value, str)):
        raise InvalidValue(f"send a {kind}")
    elif isinstance(value, str):
        if len(value) > MAX_TEXT_CHARACTERS:
            raise InvalidValue(f"shorten the value to {MAX_TEXT_CHARACTERS} characters")
    elif abs(value) > MAX_NUMBER:
        raise InvalidValue("send a number between -(2^53 - 1) and 2^53 - 1, or a string")
    return value


def check_text(text: str, variables: Sequence[Variable]) -> None:
    """Raise InvalidValue unless every `{{` of a text or subject begins a variable of the template."""
    declared = {variable.key for variable in variables}
    for match in PLACEHOLDER.finditer(text):
        key = match[1] or match[2]
        if key in RESERVED:
            raise InvalidValue(f"{key} is reserved for contacts, which are not kept here: give it another name")
        if key not in declared:
            raise InvalidValue(f"declare {key[:MAX_KEY_CHARACTERS]} in variables, or remove it")
    if "{{" in PLACEHOLDER.sub(" ", text):
        raise InvalidValue("after {{ write the name of a variable and its }}: templates have no blocks and no filters")


def check_html(text: str, variables: Sequence[Variable]) -> None:
    """Raise InvalidValue as `check_text` does, and where a value could become more than a value."""
    check_text(text, variables)
    if spans := [match.span() for match in PLACEHOLDER.finditer(text)]:
        check_places(text, spans)


def choose_values(variables: Sequence[Variable], given: Mapping[str, Value | None]) -> tuple[dict[str, str], list[str]]:
    """Return each variable's value as text, its fallback where none is given, and the names that have neither.

    The values are those that `parse_value` took. What is given beyond the variables is left out: a template
    may lose a variable before its callers do.
    """
    values, missing = {}, []
    for variable in variables:
        value = given.get(variable.key)
        value = variable.fallback if value is None else value
        if value is None:
            missing.append(variable.key)
        else:
            values[variable.key] = _as_text(value)
    return values, missing


def render(template: Template, values: Mapping[str, str]) -> Rendered:
    """Put the values in their places; raises InvalidValue when it becomes too large.

    Line breaks and the like are left to whoever checks the subject: there they are refused.
    """
    escaped = {key: html.escape(value) for key, value in values.items()}
    size = _measure(template.html, escaped) + _measure(template.text or "", values)
    if size > MAX_RENDERED_BYTES:
        raise InvalidValue(f"send shorter values: the message would have more than {MAX_RENDERED_BYTES // 1024} KiB")
    return Rendered(
        html=_fill(template.html, escaped),
        text=None if template.text is None else _fill(template.text, values),
        subject=None if template.subject is None else _fill(template.subject, values),
    )


def _as_text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _measure(text: str, values: Mapping[str, str]) -> int:
    sizes = {key: len(value.encode("utf-8", "surrogatepass")) for key, value in values.items()}
    grown = sum(sizes[match[1] or match[2]] for match in PLACEHOLDER.finditer(text))
    return len(text.encode("utf-8", "surrogatepass")) + grown


def _fill(text: str, values: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: values[match[1] or match[2]], text)
