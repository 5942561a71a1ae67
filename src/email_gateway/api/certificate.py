"""The API's own certificate, where no load balancer ends TLS: read at the start, and again whenever its files change."""

import ssl
from pathlib import Path

from email_gateway.errors import ConfigurationError
from email_gateway.observe import get_logger

log = get_logger(__name__)

Stamp = tuple[tuple[int, int], ...]


class Certificate:
    """What the listener shows to clients; `context` stays the same object while the certificate changes in it."""

    def __init__(self, chain: Path, key: Path) -> None:
        """Read a PEM chain and its key; raises ConfigurationError when they cannot serve."""
        self._files = (chain, key)
        try:
            self._stamp = self._look()
            self.context = self._load()
        except OSError as error:  # also what ssl raises
            raise _refusal_of(error) from None

    def follow(self) -> None:
        """Take another certificate for new connections once the files have changed; one that cannot serve is logged."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._stamp = stamp  # also of files that are half written: they change again
            self._load()  # into another context first: a pair that does not match would spoil ours
            self.context.load_cert_chain(*self._files, password=_ask_nobody)
        except OSError as error:
            log.error("certificate_not_taken", error=_refusal_of(error))
        else:
            log.info("certificate_changed")

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 section 3.1.1
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self._files, password=_ask_nobody)
        return context

    def _look(self) -> Stamp:
        # Kubernetes swaps a link, certbot too: the file behind it is another one then.
        return tuple((status.st_mtime_ns, status.st_ino) for status in (file.stat() for file in self._files))


def _ask_nobody() -> str:
    """Answer OpenSSL, which would ask for a key's passphrase on the terminal."""
    return ""


def _refusal_of(error: OSError) -> ConfigurationError:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return ConfigurationError(
        f"TLS_CERT_FILE and TLS_KEY_FILE cannot serve ({reason or type(error).__name__}): they must hold a PEM certificate"
        " with its chain, and its key without a passphrase"
    )
