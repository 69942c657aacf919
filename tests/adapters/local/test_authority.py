"""Identities are SPIFFE X.509 documents below a private root, readable by us alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store

from adapters.local.authority import Authority


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_an_identity_names_its_role_and_environment(tmp_path: Path) -> None:
    identity = Authority(tmp_path, "e42").issue("server")
    assert identity.spiffe_id == "spiffe://meshgauge.local/env/e42/server"
    names = _load(identity.certificate_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [identity.spiffe_id]
    assert "server.meshgauge.local" in names.get_values_for_type(x509.DNSName)


def test_a_verifier_accepts_it_below_its_own_root_only(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path / "ours", "e1"), Authority(tmp_path / "other", "e1")
    identity, stranger = ours.issue("server"), other.issue("server")
    store = Store([_load(identity.trust_path)])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("server.meshgauge.local"))
    chain = verifier.verify(_load(identity.certificate_path), [])
    assert chain[-1] == _load(identity.trust_path)
    with pytest.raises(x509.verification.VerificationError):
        verifier.verify(_load(stranger.certificate_path), [])
    with pytest.raises(InvalidSignature):
        _load(stranger.certificate_path).verify_directly_issued_by(_load(identity.trust_path))


def test_keys_are_p256_and_files_are_private(tmp_path: Path) -> None:
    identity = Authority(tmp_path / "ids", "e1").issue("client")
    key = _load(identity.certificate_path).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ids").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "ids").stat().st_mode) == 0o700


def test_a_life_is_short(tmp_path: Path) -> None:
    certificate = _load(Authority(tmp_path, "e1").issue("client").certificate_path)
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days < 10
