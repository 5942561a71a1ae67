"""Moving a tenant's sealed values to its newest field key, so that the older keys may end one day."""

from dataclasses import dataclass
from uuid import UUID

from email_gateway.errors import OperatorError
from email_gateway.rekeying.walking import Done, OldKeys, Pace, Progress, Steps, walk_on
from email_gateway.store.database import Database, Queries
from email_gateway.store.key_walks import Counts, Relation, SealedPage, begin_walk, count_rows, replace_values
from email_gateway.vault.data_keys import HEADER_BYTES, FieldKey
from email_gateway.vault.keyring import Keyring

Replacement = tuple[SealedPage, list[list[bytes | None]]]


@dataclass(frozen=True, slots=True)
class Resealing:
    """One tenant's values of one table, on their way to the tenant's newest field key."""

    db: Database
    keyring: Keyring
    tenant_id: UUID
    relation: Relation

    async def count_rows(self) -> int:
        """Return about how many rows are yet to be looked at."""
        walk = await begin_walk(self.db, self.tenant_id, self.relation, await self._newest_key_id())
        return await count_rows(self.db, self.relation, self.tenant_id, walk.at)

    async def run(self, pace: Pace, progress: Progress) -> Counts:
        """Seal anew every value that is not under the newest key, from where an unfinished run stopped.

        Of each batch the first new value of each field is opened before the batch is written, in one
        statement and with the position in the same transaction. What was changed or deleted
        meanwhile is left to the next run; what does not open stays as it is and is counted. Raises
        KeyUnavailable when an old key is out of reach, Conflict when another command works on the
        same values; what was done until then stands.
        """
        key = (await self.keyring.tenant(self.tenant_id)).field_key
        walk = await begin_walk(self.db, self.tenant_id, self.relation, key.key_id)
        old_keys = OldKeys(self.keyring, self.tenant_id)
        steps = Steps(self.relation, lambda page: reseal_page(page, self.relation, old_keys, key), self._write)
        return await walk_on(self.db, walk, old_keys, steps, pace, progress)

    async def _newest_key_id(self) -> bytes:
        return (await self.keyring.tenant(self.tenant_id)).field_key.key_id

    async def _write(self, transaction: Queries, work: Replacement) -> int:
        return await replace_values(transaction, self.relation, self.tenant_id, *work)


def reseal_page(page: SealedPage, relation: Relation, old_keys: OldKeys, key: FieldKey) -> Done[Replacement]:
    """Open each value of a page that is under another key and seal it under the newest; in a thread.

    The first value of each field is opened again: a key or a field that is not what it should be
    shows there, before anything of the batch is written. What accepts mail opens none, and this is
    as sure.
    """
    columns: list[list[bytes | None]] = []
    unreadable: list[UUID] = []
    values = 0
    for field, column in zip(relation.fields, page.values, strict=True):
        older = [None if sealed is None or sealed[2:HEADER_BYTES] == key.key_id else sealed for sealed in column]
        plaintexts = old_keys.open(field, page.row_ids, older)
        fresh = key.seal_all(field, page.row_ids, plaintexts)
        for row_id, sealed, moved in zip(page.row_ids, older, fresh, strict=True):
            if moved is not None:
                values += 1
            elif sealed is not None:
                unreadable.append(row_id)
        first = next((at for at, moved in enumerate(fresh) if moved is not None), 0)
        if key.open_all(field, [page.row_ids[first]], [fresh[first]]) != [plaintexts[first]]:
            raise OperatorError(f"a value of {field} was not sealed as it was: nothing of this batch is written")
        columns.append(fresh)
    return Done((page, columns), values, tuple(unreadable))
