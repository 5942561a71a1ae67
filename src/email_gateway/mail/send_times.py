"""When a message is to be sent: ISO 8601, or one of a few English phrases that mean one moment and no other.

Resend reads free text here. What two people could read differently (`next Friday`, `in a while`) is refused, since
a mail that leaves at the wrong time cannot be called back.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import TypeVar

from email_gateway.mail.encoding import InvalidValue

T = TypeVar("T")

MAX_AHEAD = timedelta(days=30)
# A request that is repeated with its Idempotency-Key within the 24 hours for which that holds must be answered as it
# was, also when its time has come meanwhile. What lies further back is a mistake.
MAX_BEHIND = timedelta(hours=24)
MAX_CHARACTERS = 64
FORMS = (
    "use ISO 8601 (2026-12-01T09:00:00Z; UTC without an offset), or one of the phrases"
    ' "now", "in 10 minutes", "today at 18:30", "tomorrow at 9am", "Friday at 3pm ET"'
)

_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)?", re.ASCII)
_RELATIVE = re.compile(r"in (?P<number>\d{1,6}|an?) (?P<unit>[a-z]+)", re.ASCII)
_ON_A_DAY = re.compile(
    r"(?P<day>[a-z]+)(?: at)? (?P<time>[a-z0-9:]+(?: ?[ap]m)?)(?: (?P<zone>[a-z0-9+:-]+))?", re.ASCII
)
_CLOCK = re.compile(r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?(?P<half>am|pm)?", re.ASCII)
_OFFSET = re.compile(r"(?:utc|gmt)?(?P<sign>[+-])(?P<hours>\d{1,2})(?::?(?P<minutes>\d\d))?", re.ASCII)

_UNITS = {
    name: length
    for length, names in (
        (timedelta(seconds=1), "s sec secs second seconds"),
        (timedelta(minutes=1), "m min mins minute minutes"),
        (timedelta(hours=1), "h hr hrs hour hours"),
        (timedelta(days=1), "d day days"),
        (timedelta(weeks=1), "w week weeks"),
    )
    for name in names.split()
}
_WEEKDAYS = {
    name: number
    for number, names in enumerate(
        (
            "monday mon",
            "tuesday tue tues",
            "wednesday wed",
            "thursday thu thurs",
            "friday fri",
            "saturday sat",
            "sunday sun",
        )
    )
    for name in names.split()
}
_NAMED_TIMES = {"noon": timedelta(hours=12), "midnight": timedelta(0)}
# Hours from UTC in winter; the two-letter names follow the summer time of the United States.
_AMERICAN = {"e": -5, "c": -6, "m": -7, "p": -8}


def parse_send_time(text: str, now: datetime) -> datetime:
    """Return the moment that `text` names, in UTC, as seen from `now` (aware).

    One that lies up to MAX_BEHIND back is returned as it is: it is due. Raises InvalidValue, with the accepted
    forms, for everything else that is no moment within MAX_AHEAD.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidValue(FORMS)
    try:
        moment = _read(" ".join(text.split()), now)
    except (ValueError, OverflowError):
        raise InvalidValue(FORMS) from None
    if moment > now + MAX_AHEAD:
        raise InvalidValue(f"use a time within {MAX_AHEAD.days} days")
    if moment < now - MAX_BEHIND:
        raise InvalidValue("this time has passed: use a later one, or leave the field out to send at once")
    return moment


def _read(text: str, now: datetime) -> datetime:
    """Raise ValueError for what is no accepted form, or no day of the calendar."""
    upper, lower = text.upper(), text.lower()
    if _ISO.fullmatch(upper):
        moment = datetime.fromisoformat(upper)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    if lower == "now":
        return now.astimezone(UTC)
    if match := _RELATIVE.fullmatch(lower):
        number = 1 if match["number"] in ("a", "an") else int(match["number"])
        return now.astimezone(UTC) + number * _pick(_UNITS, match["unit"])
    if match := _ON_A_DAY.fullmatch(lower):
        return _on_a_day(match["day"], _read_clock(match["time"]), _read_zone(match["zone"] or "utc"), now)
    raise ValueError


def _on_a_day(day: str, clock: timedelta, to_utc: Callable[[datetime], datetime], now: datetime) -> datetime:
    """Return the moment of a clock time today, tomorrow, or on the next such weekday (today, while it is to come)."""
    midnight = _today(to_utc, now)
    if day in ("today", "tomorrow"):
        return to_utc(midnight + timedelta(days=day == "tomorrow") + clock)
    ahead = (_pick(_WEEKDAYS, day) - midnight.weekday()) % 7
    moment = to_utc(midnight + timedelta(days=ahead) + clock)
    return moment if moment > now else to_utc(midnight + timedelta(days=ahead + 7) + clock)


def _today(to_utc: Callable[[datetime], datetime], now: datetime) -> datetime:
    """Return the midnight, without a zone, with which the day of `now` began there."""
    naive = now.astimezone(UTC).replace(tzinfo=None)
    midnight = naive.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in (midnight + timedelta(days=1), midnight):
        if to_utc(day) <= now:
            return day
    return midnight - timedelta(days=1)


def _read_clock(text: str) -> timedelta:
    if text in _NAMED_TIMES:
        return _NAMED_TIMES[text]
    match = _CLOCK.fullmatch(text)
    if match is None or (match["half"] is None and match["minute"] is None):  # "at 9" is one of two hours
        raise ValueError
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    if match["half"]:
        if not 1 <= hour <= 12:
            raise ValueError
        hour = hour % 12 + 12 * (match["half"] == "pm")
    if hour > 23 or minute > 59:
        raise ValueError
    return timedelta(hours=hour, minutes=minute)


def _read_zone(text: str) -> Callable[[datetime], datetime]:
    """Return what turns a time without a zone into a moment."""
    if text in ("utc", "gmt", "z"):
        return _fixed(timedelta(0))
    if match := _OFFSET.fullmatch(text):
        hours, minutes = int(match["hours"]), int(match["minutes"] or 0)
        if hours > 14 or minutes > 59:
            raise ValueError
        return _fixed(timedelta(hours=hours, minutes=minutes) * (-1 if match["sign"] == "-" else 1))
    first, rest = text[:1], text[1:]
    winter = timedelta(hours=_pick(_AMERICAN, first))
    match rest:
        case "st":
            return _fixed(winter)
        case "dt":
            return _fixed(winter + timedelta(hours=1))
        case "t":
            return lambda local: _fixed(winter + timedelta(hours=is_american_summer(local)))(local)
    raise ValueError


def is_american_summer(local: datetime) -> bool:
    """Tell whether clocks in the United States show summer time.

    From the second Sunday of March to the first of November, at two in the morning (15 U.S.C. 260a).
    """
    march, november = datetime(local.year, 3, 8, 2), datetime(local.year, 11, 1, 2)  # noqa: DTZ001 - as clocks show it
    begins, ends = (day + timedelta(days=6 - day.weekday()) for day in (march, november))
    return begins <= local < ends


def _fixed(offset: timedelta) -> Callable[[datetime], datetime]:
    return lambda local: local.replace(tzinfo=timezone(offset)).astimezone(UTC)


def _pick(table: dict[str, T], name: str) -> T:
    if name not in table:
        raise ValueError
    return table[name]
