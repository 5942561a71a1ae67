"""The embedded PostgreSQL: the real server from the wheel, for a machine that has none.

`up` starts it on its main thread; it dies with `up`, however `up` dies, and leaves nothing that
blocks the next start. It talks TCP on loopback, with a password, and never runs as root.
"""

from email_gateway.embedded.programs import binaries, default_home
from email_gateway.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "binaries", "default_home"]
