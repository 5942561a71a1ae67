"""Console blocks of a page of docs/: the commands behind `$ `, and what stands below each."""

import re
import socket
from dataclasses import dataclass

BLOCK = re.compile(r"^```console\n(?P<lines>.*?)^```$", re.DOTALL | re.MULTILINE)
PROMPT, CONTINUED = "$ ", "> "
# What differs between two runs; columns are as wide as what stands in them, so only words are compared.
VOLATILE = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "VERSION"),
    (re.compile(r"arn:aws:sts::[^\s\"]+"), "CALLER"),
    (re.compile(r"\bEGW-[0-9a-f]{8}\b"), "EGW-VERSION"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "ROOT"),
    (re.compile(r"\b\d+ bytes\b"), "BYTES"),
    (re.compile(r"\bage1[0-9a-z]{58}\b"), "PUBLIC-KEY"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "SHORT"),
    (re.compile(r"\b\d{4}-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?)?"), "TIME"),
    (re.compile(r"\b(api|worker) \d+"), r"\1 PID"),
    (re.compile(r"\b\d+ s\b"), "SECONDS"),
    (re.compile(r"[\u2500-\u257f]+"), " "),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A command as a shell takes it, of several lines where it is continued, and what it prints."""

    command: str
    output: str


def read_steps(page: str) -> list[Step]:
    """List the commands of every console block, in the page's order."""
    return [step for block in BLOCK.finditer(page) for step in _steps_of(block["lines"].splitlines())]


def _steps_of(lines: list[str]) -> list[Step]:
    if not lines or not lines[0].startswith(PROMPT):
        raise ValueError(f"a console block begins with a command: {lines[:1]}")
    steps: list[tuple[list[str], list[str]]] = []
    for line in lines:
        if line.startswith(PROMPT):
            steps.append(([line.removeprefix(PROMPT)], []))
            continue
        command, output = steps[-1]
        if not output and (command[-1].endswith("\\") or line.startswith(CONTINUED)):
            command.append(line.removeprefix(CONTINUED))
        else:
            output.append(line)
    return [Step("\n".join(command), "\n".join(output)) for command, output in steps]


def words(text: str) -> list[str]:
    """List the words of an output, in their order, with a word in the place of each that differs between two runs."""
    for pattern, stands_for in VOLATILE:
        text = pattern.sub(stands_for, text)
    host = socket.gethostname()
    return ["mail-1" if word == host else word for word in text.split()]
