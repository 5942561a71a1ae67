"""Contracts C2, C3 and C4 (README), as questions to the journal, the relay and the workers after every step.

Each promise has a name, so that it can be asked for alone.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from email_gateway.mail.deliveries import Verdict
from email_gateway.store.deliveries import MAX_CRASHES
from tests.histories.journal import Entry, Key
from tests.histories.line import Weather
from tests.histories.relay import Heard, Relay

if TYPE_CHECKING:
    from tests.histories.deliveries_world import Worker

MAX_DOUBTS = 2
ORPHANS_WAIT_SECONDS = 30.0
RESULTS_WAIT_SECONDS = 10.0  # for a database that answers
UNFINISHED = ("queued", "sending")
PROMISES = frozenset({
    "books",  # every accepted delivery stands in one state, and the view says so
    "copies",  # a server has never more copies than recorded doubts + 1
    "bounded",  # MAX_DOUBTS doubts are resent, none with `hold`
    "doubts",  # a doubt is a claim lost in `dot_pending`, or a server's silence there; and each is recorded
    "kept",  # what a living worker heard is written, and is no doubt
    "settled",  # a late result settles the doubt while nobody has claimed again; a 250 while no dot is pending
    "late",  # a result under a lost token changes no state
    "fence",  # one worker holds a delivery; who writes the dot has committed it
    "living",  # what a worker holds that lives is not taken from it
    "orphans",  # what a dead worker held is claimable within 30 s
    "innocents",  # only what was composed alone, and killed its workers, becomes `worker_lost`
    "places",  # what is given back or rescued keeps its place
    "final",  # final states change only when an operator retries
    "stuck",  # in the end everything is final
})  # fmt: skip


class Broken(AssertionError):
    """A promise does not hold."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


@dataclass(slots=True)
class Mail:
    """One accepted delivery, as the history knows it."""

    key: Key
    on_doubt: str
    row: dict[str, Any] = field(default_factory=lambda: {"state": "queued", "lost_token": None})
    place: str | None = None
    doubts: int = 0
    retries: int = 0
    kills: int = 0  # workers that died, or stood still past their lease, while they composed it alone

    @property
    def doubts_allowed(self) -> int:
        return 0 if self.on_doubt == "hold" else MAX_DOUBTS


class Promises:
    """Reads entries as they come, and asks what can be asked between them."""

    def __init__(self, relay: Relay, asked: Iterable[str] = PROMISES) -> None:
        self._relay = relay
        self._asked = frozenset(asked)
        self.mails: dict[Key, Mail] = {}
        self.holders: dict[str, Worker] = {}  # by token: who has been told that it holds it
        self._orphans: dict[str, float] = {}  # by token: since when nobody does
        self._pending: set[str] = set()  # tokens whose dot was committed
        self._unwritten: list[Heard] = []
        self._heard: dict[str, Heard] = {}

    def require(self, promise: str, holds: bool, what: str, mail: Mail | None = None) -> None:
        if not holds and promise in self._asked:
            raise Broken(promise, what if mail is None else f"{what} ({mail.row['state']}, recipient {mail.key[1]})")

    # What happened.

    def read(self, entries: Iterable[Entry], workers: "dict[str, Worker]") -> None:
        """Take in what the journal says; `workers` are those of each login."""
        for heard in self._relay.heard:
            self._heard[str(heard.outcome.claim.token)] = heard
        self._unwritten.extend(self._relay.heard)
        self._relay.heard.clear()
        for entry in entries:
            mail = self.mails.get(entry.key)
            if mail is None:
                continue
            if entry.old is None:
                self._read_event(mail, entry, workers.get(entry.who))
            else:
                self._read_change(mail, entry, workers.get(entry.who))
        for tokens in self._relay.fresh_dots:
            self.require("fence", tokens <= self._pending, "a dot was written that had not been committed")
        self._relay.fresh_dots.clear()

    def _read_change(self, mail: Mail, entry: Entry, worker: "Worker | None") -> None:
        old, new = entry.old, entry.new
        assert old is not None
        if old["state"] == "queued" and new["state"] == "sending":
            mail.place = old["next_attempt_at"]
        if new["phase"] == "dot_pending":
            self._pending.add(new["claim_token"])
        is_moved = old["state"] == new["state"] == "sending" and old["claim_token"] != new["claim_token"]
        self.require("fence", not is_moved, "a claim changed hands while it was held", mail)
        if worker is None:
            mail.retries += old["state"] == "dead" and new["state"] == "queued"
        else:
            is_settled = entry.query == "finish" and (old["state"], old["reason"]) == ("dead", "in_doubt")
            is_final = old["state"] not in UNFINISHED and old["state"] != new["state"]
            self.require("final", not is_final or is_settled, f"{entry.query} changed a final state", mail)
        if entry.query in ("rescue", "release") and new["state"] == "queued":
            self.require("places", new["next_attempt_at"] == mail.place, f"{entry.query} moved a delivery", mail)
        if entry.query == "rescue":
            self._read_rescue(mail, old, new)
        if entry.query == "finish" and worker is not None:
            self._read_finish(mail, old, new, worker)
        mail.row = new

    def _read_rescue(self, mail: Mail, old: dict[str, Any], new: dict[str, Any]) -> None:
        was_pending = old["phase"] == "dot_pending"
        self.require("doubts", (new["doubts"] > old["doubts"]) == was_pending, "a rescue took the phase amiss", mail)
        token = old["claim_token"]
        holder = self.holders.get(token)
        has_slept = holder is not None and holder.was_paused_since(holder.tokens[token])
        if has_slept and old["phase"] == "composing":
            mail.kills += 1  # a worker that it makes stand still is as lost as one that it kills
        if new["state"] == "dead" and new["reason"] == "worker_lost":
            self.require("innocents", mail.kills >= MAX_CRASHES - 1, f"dead after {mail.kills} kills of its own", mail)
        if holder is None or not holder.is_alive or has_slept:
            return  # whoever sleeps looks dead
        if (heard := self._heard.get(token)) is not None and was_pending:
            is_doubt = heard.outcome.verdict is Verdict.IN_DOUBT
            self.require("kept", is_doubt, "what a living worker had heard became a doubt", mail)
        self.require("living", False, "a living worker was robbed", mail)

    def _read_finish(self, mail: Mail, old: dict[str, Any], new: dict[str, Any], worker: "Worker") -> None:
        is_held = old["claim_token"] in worker.tokens
        is_unclaimed = old["claim_token"] is None and old["lost_token"] in worker.tokens
        is_taken = new["state"] == "delivered" and old["phase"] != "dot_pending"
        self.require("late", is_held or is_unclaimed or is_taken, "a result under a lost token became a state", mail)

    def _read_event(self, mail: Mail, entry: Entry, worker: "Worker | None") -> None:
        event, row = entry.new, mail.row
        mail.doubts += event["kind"] == "in_doubt"
        if worker is None or entry.query != "finish":
            return
        for heard in self._unwritten:
            claim = heard.outcome.claim
            if heard.worker is worker and (claim.message_id, claim.recipient, claim.attempt) == (
                *mail.key, event["attempt"],
            ):  # fmt: skip
                self._unwritten.remove(heard)
                break
        if event["kind"] == "late":
            is_open = row["state"] == "queued" or (row["state"], row["reason"]) == ("dead", "in_doubt")
            is_unsent = row["state"] == "sending" and row["phase"] != "dot_pending"
            if event["code"] == 250:
                self.require("settled", not is_open and not is_unsent, "a late 250 settled nothing", mail)
            else:
                is_ours = is_open and row["lost_token"] in worker.tokens
                self.require("settled", not is_ours, "a result that nobody had overtaken settled nothing", mail)

    # What must hold between two things that happen.

    def ask(self, books: dict[str, int], now: float, *, weather: Weather, fair_since: float, fit_since: float) -> None:
        """Ask what can be asked at any moment; `fit_since` is when somebody began to be there to rescue."""
        self._ask_books(books)
        for mail in self.mails.values():
            self._ask_copies(mail)
        self._ask_orphans(now, fit_since)
        if weather is Weather.FAIR:
            for heard in self._unwritten:
                waited = now - max(heard.at, heard.worker.woke_at, fair_since)
                is_expected = heard.worker.is_alive and not heard.worker.is_paused
                self.require(
                    "kept", not is_expected or waited < RESULTS_WAIT_SECONDS, "what was heard was never written"
                )
        self._unwritten = [heard for heard in self._unwritten if heard.worker.is_alive]

    def _ask_books(self, books: dict[str, int]) -> None:
        counted = Counter(mail.row["state"] for mail in self.mails.values())
        shown = {name: count for name, count in books.items() if count and name not in ("accepted", "difference")}
        self.require("books", books["difference"] == 0, f"the view differs by {books['difference']}")
        self.require("books", books["accepted"] == len(self.mails), "a delivery came or went")
        self.require("books", dict(counted) == shown, f"the view shows {shown}, the journal {dict(counted)}")

    def _ask_copies(self, mail: Mail) -> None:
        taken = self._relay.taken[mail.key]
        self.require("copies", taken <= mail.doubts + 1, f"{taken} copies and {mail.doubts} doubts", mail)
        most = mail.doubts_allowed + 1 + mail.retries
        self.require("bounded", taken <= most, f"{taken} copies where {most} are allowed", mail)
        doubts = int(mail.row.get("doubts", 0))
        if mail.row["state"] in UNFINISHED and not mail.retries:
            self.require("bounded", doubts <= mail.doubts_allowed, f"goes on after {doubts} doubts", mail)

    def _ask_orphans(self, now: float, fit_since: float) -> None:
        orphans = {}
        for mail in self.mails.values():
            if mail.row["state"] == "sending":
                token = mail.row["claim_token"]
                holder = self.holders.get(token)
                if holder is None or not holder.is_alive or holder.is_paused:
                    orphans[token] = self._orphans.get(token, now)
                    waited = now - max(orphans[token], fit_since)
                    self.require("orphans", waited <= ORPHANS_WAIT_SECONDS, f"an orphan for {waited} s", mail)
        self._orphans = orphans

    def unfinished(self) -> list[Mail]:
        return [mail for mail in self.mails.values() if mail.row["state"] in UNFINISHED]
