"""The process that prepares large bodies: `python -m email_gateway.api.preparer_process FD`, started by `Preparer`.

It reads orders from the socket FD until that ends, keeps nothing between two of them, and says
nothing of what it saw. What it answers with lies in memory, never on a disk.
"""

import os
import signal
import socket
import sys

import msgspec

from email_gateway.api.bodies import LargeBody
from email_gateway.api.preparer import ENCODE, Done, Failed, Needed, Refused, Work, receive, send
from email_gateway.api.preparing import prepare
from email_gateway.api.rendering import TemplatesNeeded
from email_gateway.errors import CallerError, InvalidRequest
from email_gateway.private_memory import keep_memory_private
from email_gateway.vault.data_keys import FieldKey, IndexKey
from email_gateway.vault.tenant_keys import TenantKeys

# Small messages go first where the two share a processor.
NICENESS = 10

_WORK = msgspec.msgpack.Decoder(Work)


def main() -> None:
    """Prepare one body after the other until the api process is gone."""
    keep_memory_private()
    os.nice(NICENESS)
    # A supervisor that stops a whole group asks us too; the api process still has requests to answer.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            while True:
                _serve(connection)
        except OSError:
            return  # the api process has ended, or ended us


def _serve(connection: socket.socket) -> None:
    message, body = receive(connection)
    if body is None:
        raise ConnectionError("an order without a body")
    try:
        prepared = _prepare(_WORK.decode(message), body)
    except CallerError as refused:
        faults = refused.faults if isinstance(refused, InvalidRequest) else ()
        send(connection, ENCODE(Refused(refused.code, str(refused), faults)))
    except TemplatesNeeded as needed:
        send(connection, ENCODE(Needed(dict(needed.names))))
    except Exception as error:  # noqa: BLE001 - the outermost frame; a traceback might quote the body
        send(connection, ENCODE(Failed(type(error).__name__)))
    else:
        result = LargeBody()
        try:
            result.add(prepared)
            send(connection, ENCODE(Done(result.size)), result.fd)
        finally:
            result.close()


def _prepare(work: Work, body: int) -> bytes:
    index_key, *beside = (IndexKey(material, work.tenant_id) for material in work.index_materials)
    keys = TenantKeys(work.tenant_id, FieldKey(work.field_material, work.tenant_id), index_key, tuple(beside))
    with open(body, "rb") as file:  # a descriptor has no path
        file.seek(0)
        return ENCODE(prepare(work.order, keys, file.read()))


if __name__ == "__main__":
    main()
