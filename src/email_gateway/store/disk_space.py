"""Whether the database's disk has room: found by writing, since a small change finds room in a full one."""

from email_gateway.store.database import Database
from email_gateway.store.queries import load

SQL = load("disk_space")


async def require_disk_space(db: Database) -> None:
    """Have PostgreSQL write half a megabyte beside its data; raises DatabaseUnavailable where there is no room."""
    async with db.transaction() as transaction:
        await transaction.execute(SQL.keep_memory_small)
        await transaction.fetch(SQL.write_file)
