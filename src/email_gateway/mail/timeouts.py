"""How long each step of a conversation with a mail server may take."""

from dataclasses import dataclass, fields
from datetime import timedelta

MOST_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each step may take: what RFC 5321 section 4.5.3.2 asks for, and Postfix's where it is silent.

    A timeout ends the wait for a whole reply, however slowly it drips. `attempt` bounds everything
    before the final dot; after the dot only `dot` counts, since giving up early makes duplicates.
    """

    connect: timedelta = timedelta(seconds=10)  # a probe of a server that drops packets must end soon
    tls: timedelta = timedelta(seconds=60)
    greeting: timedelta = timedelta(minutes=5)  # 4.5.3.2.1
    ehlo: timedelta = timedelta(minutes=5)
    auth: timedelta = timedelta(minutes=3)  # RFC 4954 section 4
    mail: timedelta = timedelta(minutes=5)  # 4.5.3.2.2
    rcpt: timedelta = timedelta(minutes=5)  # 4.5.3.2.3
    data: timedelta = timedelta(minutes=2)  # 4.5.3.2.4
    block: timedelta = timedelta(minutes=3)  # 4.5.3.2.5
    dot: timedelta = timedelta(minutes=10)  # 4.5.3.2.6
    reset: timedelta = timedelta(seconds=20)
    quit: timedelta = timedelta(seconds=5)
    attempt: timedelta = timedelta(minutes=15)


STEPS = tuple(step.name for step in fields(Timeouts))


def parse_timeouts(text: str) -> Timeouts:
    """Read `connect=5,dot=900`: whole seconds for the steps that are named, the default for the others.

    Raises ValueError, which starts with "must".
    """
    chosen: dict[str, timedelta] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        step, _, seconds = part.partition("=")
        is_number = seconds.isascii() and seconds.isdigit() and len(seconds) <= len(str(MOST_SECONDS))
        if step not in STEPS or step in chosen or not is_number or not 1 <= int(seconds) <= MOST_SECONDS:
            raise ValueError(
                f"must be steps, each once, with 1 to {MOST_SECONDS} seconds, such as connect=5,dot=900: {', '.join(STEPS)}"
            )
        chosen[step] = timedelta(seconds=int(seconds))
    return Timeouts(**chosen)
