"""The geometry of the overview's two pictures: the last hour as bars, the deliveries as one strip."""

from collections.abc import Sequence
from dataclasses import dataclass

from email_gateway.mail.deliveries import State
from email_gateway.store.statistics import Minute

WIDTH = 720
HEIGHT = 180
LEFT = 44  # room for the numbers of the scale
BOTTOM = 24  # room for the minutes
TOP = 10
STRIP_WIDTH = 1000
LEAST_SEGMENT = 6  # one dead delivery among a million must still be seen


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute: what was accepted as a bar, what was delivered and what failed inside it."""

    x: float
    width: float
    accepted_y: float
    accepted_height: float
    delivered_y: float
    delivered_height: float
    failed_y: float
    failed_height: float
    minute: Minute


@dataclass(frozen=True, slots=True)
class Chart:
    """The last hour, ready to be drawn; `scale` holds (y, value) of the horizontal lines."""

    bars: tuple[Bar, ...]
    scale: tuple[tuple[float, int], ...]
    labels: tuple[tuple[float, str], ...]
    accepted: int
    delivered: int
    failed: int
    busiest: Minute | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    baseline: int = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class Segment:
    """One state's share of all deliveries, in thousandths of the strip."""

    state: State
    count: int
    x: float
    width: float


def draw_hour(minutes: Sequence[Minute]) -> Chart:
    """Lay out sixty minutes, oldest first, on a scale that ends at a round number."""
    top = round_up(max((max(m.accepted, m.delivered, m.failed) for m in minutes), default=0))
    plot = HEIGHT - BOTTOM - TOP
    step = (WIDTH - LEFT) / max(1, len(minutes))

    def tall(count: int) -> float:
        return round(plot * count / top, 2)

    def y(count: int) -> float:
        return round(HEIGHT - BOTTOM - tall(count), 2)

    bars = tuple(
        Bar(
            round(LEFT + i * step + step * 0.12, 2),
            round(step * 0.76, 2),
            y(m.accepted),
            tall(m.accepted),
            y(m.delivered),
            tall(m.delivered),
            y(m.failed),
            tall(m.failed),
            m,
        )
        for i, m in enumerate(minutes)
    )
    labels = tuple(
        (round(LEFT + (i + 0.5) * step, 2), f"{m.at:%H:%M}") for i, m in enumerate(minutes) if m.at.minute % 10 == 0
    )
    busiest = max(minutes, key=lambda m: m.accepted, default=None)
    return Chart(
        bars=bars,
        scale=tuple((y(value), value) for value in sorted({0, top // 2, top})),
        labels=labels,
        accepted=sum(m.accepted for m in minutes),
        delivered=sum(m.delivered for m in minutes),
        failed=sum(m.failed for m in minutes),
        busiest=busiest if busiest and busiest.accepted else None,
    )


def draw_strip(counts: dict[State, int]) -> tuple[Segment, ...]:
    """Lay out the states that occur side by side, each wide enough to be seen."""
    present = {state: count for state, count in counts.items() if count}
    total = sum(present.values())
    if not total:
        return ()
    spare = STRIP_WIDTH - LEAST_SEGMENT * len(present)
    segments = []
    x = 0.0
    for state, count in present.items():
        width = LEAST_SEGMENT + spare * count / total
        segments.append(Segment(state, count, round(x, 2), round(width, 2)))
        x += width
    return tuple(segments)


def round_up(value: int) -> int:
    """Return the next of 4, 10, 20, 40, 100, 200, 400, 1000...: each halves to a whole number."""
    step = 1
    while True:
        for lead in (4, 10, 20):
            if value <= lead * step:
                return lead * step
        step *= 10
