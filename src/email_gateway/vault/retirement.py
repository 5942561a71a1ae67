"""How a root key goes: days after another took over, when nobody needs it and everything opens without it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from email_gateway.errors import Conflict
from email_gateway.store import keys as store
from email_gateway.store.audit import add_audit
from email_gateway.store.database import Database, Queries
from email_gateway.store.instances import list_instances
from email_gateway.vault.adoption import Progress, verify
from email_gateway.vault.held_roots import HeldRoots
from email_gateway.vault.status import LIVE_INSTANCE

# Longer than a release is rolled back, and than an operator is away for a weekend.
RETIRING_LASTS = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Retirement:
    """What became of one retiring root: how many wraps went, or why it stays."""

    root_id: bytes
    wraps: int = 0
    kept_because: str | None = None


async def retire(
    db: Database, held: HeldRoots, *, actor: str, after: timedelta = RETIRING_LASTS, progress: Progress
) -> list[Retirement]:
    """Retire every root that has been retiring for long enough, and say why the others stay.

    Before anything goes, every live data key is opened under the active root, and every process
    seen in the last ten minutes must hold that root. The rows of `crypto_root` stay, so that a
    restored backup can still be read. Raises Conflict, naming the processes, and Tampered, naming a key.
    """
    roots = await store.list_roots(db)
    retiring = [root for root in roots if root.state == "retiring"]
    active = next((root for root in roots if root.state == "active"), None)
    if active is None:
        raise Conflict("the database has no active root key: nothing may go")
    if not retiring:
        return []
    await _require_followers(db, active.root_id)
    await verify(db, held, active.root_id, progress)
    return [await _retire_one(db, root, active, actor, after) for root in retiring]


async def _retire_one(
    db: Database, root: store.StoredRoot, active: store.StoredRoot, actor: str, after: timedelta
) -> Retirement:
    # The age is shown by this machine's clock; the days do not depend on seconds.
    age = datetime.now(UTC) - (root.retiring_at or root.created_at)
    if age < after:
        return Retirement(root.root_id, kept_because=f"retiring for {age.days} of {after.days} days")
    async with db.transaction() as transaction:
        await store.lock_adoption(transaction)
        await store.lock_roots(transaction)
        states = {each.root_id: each.state for each in await store.list_roots(transaction)}
        if states[root.root_id] != "retiring" or states[active.root_id] != "active":
            return Retirement(root.root_id, kept_because="the roots changed meanwhile")
        await _require_followers(transaction, active.root_id)
        wraps = await store.retire_root(transaction, root.root_id)
        await add_audit(transaction, actor=actor, action="root.retired", subject=root.root_id.hex())
    return Retirement(root.root_id, wraps)


async def _require_followers(db: Queries, active_root: bytes) -> None:
    late = [each for each in await list_instances(db, LIVE_INSTANCE) if each.standing.active_root != active_root]
    if late:
        names = ", ".join(f"{each.process} {each.pid} on {each.host}" for each in late)
        raise Conflict(f"not every process holds the active root key: {names}; look at `email-gateway status`")
