"""Questions to the DNS. Only this module imports the resolver."""

from collections.abc import Sequence
from contextlib import suppress

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver

from email_gateway.errors import DnsUnavailable

# Of one question to one server, and of all that is tried for one answer.
SERVER_SECONDS = 1.5
ANSWER_SECONDS = 4.0
UDP_OCTETS = 1232  # what is not cut into pieces on its way, as the DNS flag day of 2020 has it

Server = tuple[str, int]


class Resolver:
    """Asks the servers it is given, or those of the system (/etc/resolv.conf); it keeps no answer."""

    def __init__(self, servers: Sequence[Server] = (), *, within: float = ANSWER_SECONDS) -> None:
        self._within = within
        self._resolver = _make_resolver(servers)
        self._resolver.timeout = min(SERVER_SECONDS, within)
        self._resolver.use_edns(0, 0, UDP_OCTETS)

    async def list_texts(self, name: str) -> list[str]:
        """Return the TXT records of a name, each with its strings joined (RFC 7208 section 3.3); none is an answer too.

        Raises DnsUnavailable when no server gives an answer in time. Aliases are followed, and what does not
        fit into a datagram is asked for again over TCP.
        """
        try:
            answer = await self._resolver.resolve(
                dns.name.from_text(name), "TXT", lifetime=self._within, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise DnsUnavailable(f"the DNS does not answer ({type(error).__name__})") from None
        return [b"".join(record.strings).decode("ascii", errors="replace") for record in answer]


def _make_resolver(servers: Sequence[Server]) -> dns.asyncresolver.Resolver:
    if not servers:
        with suppress(dns.resolver.NoResolverConfiguration):  # then there is nobody to ask, and nothing is answered
            return dns.asyncresolver.Resolver()
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
    return resolver
