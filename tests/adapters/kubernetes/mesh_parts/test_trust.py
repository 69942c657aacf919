"""The certificates of a mesh that cannot make its own: they verify, and sign what they should and nothing more."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from adapters.kubernetes.mesh_parts import trust
from adapters.kubernetes.mesh_parts.trust import Issuer, make_issuer

ANCHOR, ISSUER, POD = "root.example", "identity.example", "default.bench.serviceaccount.identity.example"


@pytest.fixture(scope="module")
def made() -> Issuer:
    return make_issuer(ANCHOR, ISSUER)


def certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def issuer_key(made: Issuer) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(made.key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def issue(made: Issuer, *, is_authority: bool = False) -> x509.Certificate:
    """Return what a mesh's identity service would issue for a pod, or an authority it must not make."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    issuer = certificate(made.certificate)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=24))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(POD)]), critical=True)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key(made).public_key()), critical=False
        )
        .sign(issuer_key(made), hashes.SHA256())
    )


def test_what_the_issuer_issues_is_trusted_through_the_anchor(made: Issuer) -> None:
    verifier = PolicyBuilder().store(Store([certificate(made.anchor)])).build_server_verifier(x509.DNSName(POD))
    leaf = issue(made)
    assert verifier.verify(leaf, [certificate(made.certificate)])[0] == leaf


def test_another_anchor_does_not_vouch_for_it(made: Issuer) -> None:
    other = make_issuer(ANCHOR, ISSUER)
    verifier = PolicyBuilder().store(Store([certificate(other.anchor)])).build_server_verifier(x509.DNSName(POD))
    with pytest.raises(VerificationError):
        verifier.verify(issue(made), [certificate(made.certificate)])


def test_key_and_certificate_of_the_issuer_belong_together_and_differ_from_the_anchors(made: Issuer) -> None:
    public = certificate(made.certificate).public_key()
    assert public == issuer_key(made).public_key()
    assert public != certificate(made.anchor).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"


def test_the_issuer_makes_no_further_authorities(made: Issuer) -> None:
    constraints = {
        name: certificate(pem).extensions.get_extension_for_class(x509.BasicConstraints).value
        for name, pem in (("anchor", made.anchor), ("issuer", made.certificate))
    }
    assert constraints["anchor"] == x509.BasicConstraints(ca=True, path_length=1)
    assert constraints["issuer"] == x509.BasicConstraints(ca=True, path_length=0)


def test_both_carry_their_names_and_live_for_a_year(made: Issuer) -> None:
    now = dt.datetime.now(dt.UTC)
    for pem, name in ((made.anchor, ANCHOR), (made.certificate, ISSUER)):
        parsed = certificate(pem)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [name]
        assert parsed.not_valid_before_utc < now
        assert now + trust.LIFE - dt.timedelta(days=1) < parsed.not_valid_after_utc <= now + trust.LIFE


def test_the_key_is_not_shown_by_accident(made: Issuer) -> None:
    assert "PRIVATE KEY" in made.key
    assert "PRIVATE KEY" not in repr(made)
    assert "PRIVATE KEY" not in made.certificate + made.anchor
