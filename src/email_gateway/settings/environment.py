"""The one reader of the environment: where a value comes from, and which of several counts."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from email_gateway.errors import ConfigurationError
from email_gateway.settings.rules import apply_rules
from email_gateway.settings.table import FIELDS, SETTINGS, Settings

DATABASE_IS_EMBEDDED = "DATABASE_IS_EMBEDDED"
ASCII_WHITE_SPACE = " \t\n\r\v\f"


def load_settings(
    environ: Mapping[str, str] | None = None,
    handed: Mapping[str, str] | None = None,
    *,
    generated: Mapping[str, str] | None = None,
    dotenv: Path | None = None,
) -> Settings:
    """Read the settings: `handed`, then the environment, then `.env`, then `generated`.

    `handed` came from the parent process through a pipe; `generated` are development credentials
    that count only where nothing else is set. `.env` is read in development only, by default the
    one in the working directory and only beside the real environment; it is never exported. An
    empty value counts as unset. Raises ConfigurationError with every problem and no value.
    """
    if environ is None:
        environ, dotenv = os.environ, dotenv or Path(".env")
    problems: dict[str, str] = {}  # by setting: one mistake is reported once
    outside = {**_set_values(environ), **_set_values(handed or {})}
    from_file = _read_dotenv(dotenv, problems) if dotenv and _is_development(outside) else {}
    read = _parse({**_set_values(generated or {}), **from_file, **outside}, problems)
    apply_rules(read, problems)
    if problems:
        lines = (f"  - {name} {problem}" for name, problem in problems.items())
        raise ConfigurationError("The settings cannot work:\n" + "\n".join(lines))
    return Settings(**read, is_database_embedded=DATABASE_IS_EMBEDDED in (handed or {}))


def environ_without(names: Iterable[str]) -> dict[str, str]:
    """Return the environment for a child process, without these variables."""
    left_out = set(names)
    return {name: value for name, value in os.environ.items() if name not in left_out}


def change_environ(values: Mapping[str, str], *, without: Iterable[str]) -> None:
    """Set these variables in the environment and take others out of it, for this process and its later children.

    For what a library reads by itself, as the AWS client reads its credentials.
    """
    for name in without:
        os.environ.pop(name, None)
    os.environ.update(values)


def environ_of(names: Iterable[str]) -> dict[str, str]:
    """Return these variables of the environment, where set, for a child process that may have no others."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _set_values(values: Mapping[str, str]) -> dict[str, str]:
    stripped = ((name, value.strip(ASCII_WHITE_SPACE)) for name, value in values.items())
    return {name: value for name, value in stripped if value}


def _is_development(values: Mapping[str, str]) -> bool:
    return values.get("APP_ENV", values.get("NODE_ENV", "development")).casefold() == "development"


def _read_dotenv(path: Path, problems: dict[str, str]) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        # No interpolation: a password may hold "${".
        values = _set_values({name: value or "" for name, value in dotenv_values(path, interpolate=False).items()})
    except (OSError, UnicodeDecodeError):
        problems[".env"] = "cannot be read as UTF-8 text"
        return {}
    if not _is_development(values):
        problems["APP_ENV"] = "in .env can only be development, where .env is read; set it in the environment"
    return values


def _parse(values: Mapping[str, str], problems: dict[str, str]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for setting in SETTINGS:
        name, used = FIELDS.get(setting.name, setting.name.lower()), setting.name_in(values)
        text = values.get(used, setting.default)
        try:
            read[name] = None if text is None else setting.parse(text)
        except ValueError as wrong:
            problems.setdefault(used, str(wrong))
            read[name] = None
    return read
