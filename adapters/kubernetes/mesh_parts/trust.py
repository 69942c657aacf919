"""A certificate authority for a mesh that cannot make its own: an anchor to trust, an issuer below it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from adapters.certificates import builder, key_pem, key_usage, name_of

# A mesh installed to stay has to be renewed or removed within this time. Source: what `linkerd install` gives its own.
LIFE: Final = dt.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Issuer:
    """An intermediate authority, in PEM.

    Attributes:
        key: PKCS#8, not encrypted: a secret.
        anchor: the root it is below. The root's own key is gone: nobody issues another issuer.
    """

    certificate: str
    key: str = field(repr=False)
    anchor: str


def make_issuer(anchor_name: str, issuer_name: str) -> Issuer:
    """Return a new issuer below a new anchor. ECDSA P-256 throughout.

    Args:
        anchor_name, issuer_name: DNS names, common name and subject alternative name alike.

    Source: RFC 5280, 4.2.1.3 and 4.2.1.9 (key usage and path length of authorities).
    """
    anchor_key, issuer_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    anchor = _authority(anchor_name, anchor_key.public_key(), anchor_name, anchor_key, path_length=1)
    issuer = _authority(issuer_name, issuer_key.public_key(), anchor_name, anchor_key, path_length=0)
    return Issuer(_pem(issuer), key_pem(issuer_key).decode(), _pem(anchor))


def _authority(
    name: str,
    public_key: ec.EllipticCurvePublicKey,
    signer_name: str,
    signer_key: ec.EllipticCurvePrivateKey,
    path_length: int,
) -> x509.Certificate:
    return (
        builder(name_of(name), public_key, name_of(signer_name), signer_key.public_key(), LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer_key, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
