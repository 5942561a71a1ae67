"""Certificates for test servers: good, expired, for another name, signed by nobody."""

import datetime as dt
import ssl
import tempfile
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


class Authority:
    """A certificate authority that only the tests trust."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self._certificate = _sign(self._name, self._key, self._name, self._key, authority=True)

    def trust(self) -> ssl.SSLContext:
        """A client's context that verifies against this authority alone."""
        return ssl.create_default_context(cadata=self.pem())

    def pem(self) -> str:
        """The authority's certificate, as SSL_CERT_FILE wants it."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def server(self, name: str = "127.0.0.1", *, expired: bool = False, self_signed: bool = False) -> ssl.SSLContext:
        """A server's context with a certificate for `name`, a host or an address."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "server.pem"
            path.write_bytes(self.server_pem(name, expired=expired, self_signed=self_signed))
            context.load_cert_chain(path)
        return context

    def asking_server(self) -> ssl.SSLContext:
        """A server's context that lets in only who shows a certificate of this authority."""
        context = self.server()
        context.load_verify_locations(cadata=self.pem())
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def server_pem(self, name: str = "127.0.0.1", *, expired: bool = False, self_signed: bool = False) -> bytes:
        """A server's key and certificate, as programs read both from one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test server")])
        issuer, issuer_key = (subject, key) if self_signed else (self._name, self._key)
        certificate = _sign(subject, key, issuer, issuer_key, name=name, expired=expired)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private + certificate.public_bytes(serialization.Encoding.PEM)


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    name: str | None = None,
    expired: bool = False,
    authority: bool = False,
) -> x509.Certificate:
    end = dt.datetime.now(dt.UTC) + (-DAY if expired else DAY)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - 10 * DAY)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if name is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
