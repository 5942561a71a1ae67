"""What of the secrets and keys waits for a person: what was seen, what it means, and the next command."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from email_gateway.dashboard.key_figures import KeySnapshot
from email_gateway.dashboard.rendering import show_length
from email_gateway.fleet import Acknowledgement
from email_gateway.secrets.secret import MOST_AGE, SecretName
from email_gateway.secrets.standing import SecretStatus
from email_gateway.vault.adoption import PENDING_LASTS

REFRESH = "`email-gateway secrets refresh` has every process read them again; if it stays, its log says why."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    what: str
    why: str
    to_do: str


def list_findings(snapshot: KeySnapshot, secrets: Mapping[str, SecretStatus]) -> tuple[Finding, ...]:
    """Return everything that waits for a person; the root keys first, since mail depends on them."""
    return (*_of_roots(snapshot), *_of_secrets(snapshot, secrets), *_of_processes(snapshot), *_of_walks(snapshot))


def _of_roots(snapshot: KeySnapshot) -> Iterator[Finding]:
    active, live = snapshot.active_root, snapshot.keys.live_keys
    if active is None:
        yield Finding(
            "No root key is active",
            "a tenant's first mail cannot be sealed",
            "docs/rotation.md, under Recovery, goes through it step by step.",
        )
    for each in snapshot.keys.roots:
        age = snapshot.at - each.root.created_at
        if each.root.state == "active" and each.wraps < live:
            yield Finding(
                f"{live - each.wraps} data keys",
                "have no wrap under the active root key",
                "`email-gateway keys verify` names the first; compare with a backup.",
            )
        if each.root.state == "pending" and age > PENDING_LASTS:
            yield Finding(
                "A rotation that has not ended",
                f"its root key has waited for {show_length(age)}",
                "The log of the rotation function says at which step it is; Secrets Manager tries it again.",
            )


def _of_secrets(snapshot: KeySnapshot, secrets: Mapping[str, SecretStatus]) -> Iterator[Finding]:
    for name, status in secrets.items():
        read = show_length(timedelta(seconds=status["age_seconds"]))
        if status["last_error"] is not None:
            code = f" ({status['last_error_code']})" if status["last_error_code"] else ""
            yield Finding(
                name,
                f"could not be read: {status['last_error']}{code}; the value of {read} ago serves",
                "`email-gateway doctor` looks at credentials, network and policies, and names the next command.",
            )
        elif status["stale"]:
            yield Finding(name, f"was last read {read} ago; that value serves", "`email-gateway doctor` says why.")
        if (age := age_of(snapshot, name, status)) and (most := MOST_AGE.get(SecretName(name))) and age > most:
            yield Finding(
                name,
                f"is {age.days} days old, {most.days} are the most",
                f"`email-gateway secrets rotate {name}` gives it another value.",
            )


def _of_processes(snapshot: KeySnapshot) -> Iterator[Finding]:
    for each in snapshot.instances:
        others = snapshot.holds_another(each)
        if each.failures:
            why = ", ".join(f"{name}: {failure}" for name, failure in each.failures.items())
            yield Finding(name_of(each), f"cannot read its secrets: {why}", "Its log names the error and what to do.")
        if snapshot.has_just_changed:
            continue
        if others:
            yield Finding(name_of(each), f"holds another version of {', '.join(others)}", REFRESH)
        elif not each.acknowledged and not each.failures:
            yield Finding(name_of(each), "has not followed the last refresh yet", REFRESH)
        if snapshot.active_root is not None and not snapshot.has_active_root(each):
            yield Finding(
                name_of(each),
                "does not hold the active root key: it opens and seals with what it has",
                "Wait a few seconds; if it stays, its log says why.",
            )


def _of_walks(snapshot: KeySnapshot) -> Iterator[Finding]:
    for walk in snapshot.walks:
        if walk.counts.unreadable:
            yield Finding(
                f"{walk.counts.unreadable} values of {walk.relation}",
                f"of {walk.tenant} do not open",
                f"`email-gateway keys reseal --tenant {walk.tenant}` names them; restore them from a backup.",
            )


def age_of(snapshot: KeySnapshot, name: str, status: SecretStatus) -> timedelta | None:
    """Return for how long the fleet has known the version that this process holds; None where it does not."""
    known = snapshot.current.get(name)
    return snapshot.at - known.current_since if known and known.version_id == status["version_id"] else None


def name_of(instance: Acknowledgement) -> str:
    """Return what operators call a process."""
    return f"{instance.process} {instance.pid} on {instance.host}"
