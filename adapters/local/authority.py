"""A private certificate authority for one environment, with SPIFFE identities."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from adapters.certificates import builder, key_pem, key_usage, name_of
from adapters.local.proxy import Identity

TRUST_DOMAIN = "meshgauge.local"
_LIFE = dt.timedelta(days=7)  # longer than any run of an environment, too short to be of use to anybody else


class Authority:
    """Issues identities below one throw-away root. ECDSA P-256 throughout, files readable by us alone.

    Source of the form of an identity: the SPIFFE X.509-SVID standard, sections 2 and 4 (one URI SAN; signing
    certificates are CAs, leaves are not and may do digital signatures).
    """

    def __init__(self, directory: Path, environment_id: str) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._environment_id = environment_id
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name_of(f"Meshgauge environment {environment_id}")
        self._trust_path = directory / "trust.pem"
        _write_private(self._trust_path, self._root().public_bytes(serialization.Encoding.PEM))

    def issue(self, role: str) -> Identity:
        """Return a new identity ``spiffe://meshgauge.local/env/<environment>/<role>``, its files written."""
        key = ec.generate_private_key(ec.SECP256R1())
        spiffe_id = f"spiffe://{TRUST_DOMAIN}/env/{self._environment_id}/{role}"
        names = x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier(spiffe_id),
                x509.DNSName(f"{role}.{TRUST_DOMAIN}"),
                x509.DNSName("localhost"),
            ]
        )
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = (
            self._builder(name_of(role), key.public_key())
            .add_extension(names, critical=False)
            .add_extension(usages, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        certificate_path, key_path = self._directory / f"{role}.pem", self._directory / f"{role}.key"
        _write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
        _write_private(
            key_path,
            key_pem(key),
        )
        return Identity(certificate_path, key_path, self._trust_path, spiffe_id)

    def _root(self) -> x509.Certificate:
        return (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return builder(subject, public_key, self._name, self._key.public_key(), _LIFE)


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
