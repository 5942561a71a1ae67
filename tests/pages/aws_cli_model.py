"""Whether a command of a page is one that the AWS CLI knows: asked of the CLI's own tables, made from botocore's models.

An emulator accepts what it likes, and some commands it does not answer at all. The tables have every operation,
its options, which of them are required, their values where AWS lists them, and the keys of structures.
"""

import os
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any
from unittest import mock

import botocore.session
from botocore.validate import ParamValidator

from tests.pages.console import BLOCK, read_steps

with mock.patch.dict(os.environ):
    # It names its own data in the environment, where every AWS client of this process would look too.
    from awscli.clidriver import CLIDriver, CLIOperationCaller, create_clidriver
    from awscli.shorthand import ShorthandParseError, ShorthandParser

    CLI_DATA = os.environ["AWS_DATA_PATH"]

START = re.compile(r"(?<![\w./-])(?<!email-gateway )aws (?=[a-z])")
FENCED = re.compile(r"^```(?:sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`(aws [^`\n]+)`")
PUNCTUATION = "();<>|&`"
# Version 1, which is installed here, lacks them.
ONLY_IN_VERSION_2 = {("sso", "login")}
# What the CLI takes with every command is in the driver's table; these come with operations that make no list.
EVERYWHERE = {"cli-input-json", "generate-cli-skeleton"}


def find_commands(text: str) -> Iterator[list[str]]:
    """Find each `aws ...` in what a shell would be given, as words without `aws`."""
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        for start in START.finditer(line):
            yield _words(line[start.end() :])


def fenced_commands(page: str) -> Iterator[list[str]]:
    """Find each command that a page gives to be typed."""
    for block in FENCED.finditer(page):
        yield from find_commands(block[1])
    for step in read_steps(page):
        yield from find_commands(step.command)


def inline_commands(page: str) -> Iterator[list[str]]:
    """Find each command that a sentence or a table names, often without all that it needs."""
    for inline in INLINE.finditer(BLOCK.sub("", FENCED.sub("", page))):
        yield from (words for words in find_commands(inline[1]) if "..." not in words)


def _words(rest: str) -> list[str]:
    lexer = shlex.shlex(rest, posix=True, punctuation_chars=PUNCTUATION)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    found: list[str] = []
    try:
        for word in lexer:
            if set(word) <= set(PUNCTUATION):
                break
            found.append(word)
    except ValueError:  # a quote that ends on another line, after this command
        pass
    return found


def problems(words: list[str], *, complete: bool = True) -> list[str]:
    """List what the AWS CLI would refuse in a command; where it is not `complete`, required options may lack."""
    service, operation = words[0], words[1] if len(words) > 1 else ""
    if (service, operation) in ONLY_IN_VERSION_2:
        return []
    table = _operations(service)
    if table is None:
        return [f"there is no service {service}"]
    if operation not in table:
        return [f"{service} has no operation {operation}"]
    arguments = table[operation].arg_table
    found: list[str] = []
    given = dict(_options(words[2:]))
    for name, values in given.items():
        if name in arguments:
            found += _refused_values(name, arguments[name], values)
        elif name not in _driver().arg_table and name not in EVERYWHERE:
            found.append(f"{service} {operation} has no option --{name}")
    if complete:
        found += [
            f"{service} {operation} needs --{name}"
            for name, argument in arguments.items()
            if argument.required and name not in given
        ]
    return found


def request_of(words: list[str]) -> dict[str, Any]:
    """Return what the AWS CLI would send for a command; nothing is sent.

    Raises AssertionError where the CLI refuses it, or botocore's model does.
    """
    sent: dict[str, Any] = {}

    def take(_caller: object, service: str, operation: str, parameters: dict[str, Any], _globals: object) -> int:
        shape: Any = botocore.session.get_session().get_service_model(service).operation_model(operation).input_shape
        report = ParamValidator().validate(parameters, shape)
        assert not report.has_errors(), report.generate_report()
        sent.update(parameters)
        return 0

    with mock.patch.object(CLIOperationCaller, "invoke", take):
        code = _make_driver().main(words)
    assert code == 0, f"the AWS CLI refuses {words}"
    return sent


@cache
def _driver() -> Any:
    driver = _make_driver()
    driver.arg_table = driver._get_cli_data()["options"]
    return driver


@cache
def _operations(service: str) -> Any:
    command = _driver()._get_command_table().get(service)
    if command is None:
        return None
    return command._get_command_table() if hasattr(command, "_get_command_table") else command.subcommand_table


def _options(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    name, values = "", list[str]()
    for word in words:
        if word.startswith("--"):
            if name:
                yield name, values
            name, _, value = word[2:].partition("=")
            values = [value] if value else []
        elif name:
            values.append(word)
    if name:
        yield name, values


def _refused_values(name: str, argument: Any, values: list[str]) -> list[str]:
    model = getattr(argument, "argument_model", None)
    if model is None:
        return []
    element = model.member if model.type_name == "list" else model
    return [told for value in values if (told := _refusal(name, element, value))]


def _refusal(name: str, shape: Any, value: str) -> str | None:
    if any(value.startswith(elsewhere) for elsewhere in ("$", "file://", "fileb://", "{", "[")):
        return None  # known only when it runs
    if shape.type_name == "string" and getattr(shape, "enum", None) and value not in shape.enum:
        return f"--{name} is one of {', '.join(shape.enum)}, not {value}"
    if shape.type_name == "structure":
        try:
            keys = set(ShorthandParser().parse(value)) - set(shape.members)
        except ShorthandParseError:
            return f"--{name} cannot be read: {value}"
        return f"--{name} knows no {', '.join(sorted(keys))}" if keys else None
    return None


def _make_driver() -> CLIDriver:
    with mock.patch.dict(os.environ, {"AWS_DATA_PATH": CLI_DATA}):
        driver = create_clidriver()
        driver.session.get_component("data_loader")
    return driver
