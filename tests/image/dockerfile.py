"""The Dockerfile as a list of stages: only the instructions that ours uses, each in its exec form."""

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "Dockerfile").read_text().replace("\\\n", " ")


@dataclass
class Stage:
    """What one FROM begins; `steps` are its RUN, COPY and WORKDIR in their order, the rest says how it is run."""

    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def parse() -> list[Stage]:
    """Return the stages; an instruction that is not known here fails, so that none is passed over."""
    stages: list[Stage] = []
    for line in TEXT.splitlines():
        name, _, rest = line.strip().partition(" ")
        match name:
            case "" | "#" | "ARG" | "EXPOSE":
                continue
            case "FROM":
                stages.append(Stage(rest.partition(" AS ")[2]))
            case "RUN" | "COPY" | "WORKDIR":
                stages[-1].steps.append((name, rest))
            case "ENV":
                stages[-1].environ |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "USER":
                stages[-1].user = rest
            case "ENTRYPOINT":
                stages[-1].entrypoint = json.loads(rest)
            case "CMD":
                stages[-1].command = json.loads(rest)
            case "HEALTHCHECK":
                stages[-1].health = json.loads(rest[rest.index("CMD ") + 4 :])
            case _:
                raise AssertionError(f"the Dockerfile has {name}, which tests/image/dockerfile.py does not know")
    return stages
