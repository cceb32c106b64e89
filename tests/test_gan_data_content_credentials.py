"""Content Credentials: pictures signed with a self-made certificate, and read back."""

import datetime
import json

import numpy as np
import pytest
from conftest import run_salon
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image
from test_cli import refused

from gan.data.content_credentials import Signer, present, read
from gan.data.images import save
from gan.data.recipe import Recipe
from gan.data.recipe import read as read_recipe

RECIPE = Recipe(kind="image", seeds=[3], truncation_psi=0.7, snapshot="ab" * 32)


def certificate(name: str, key, issuer: str, signer, *, of_authority: bool) -> x509.Certificate:
    names = [[(NameOID.ORGANIZATION_NAME, "Atelier"), (NameOID.COMMON_NAME, who)] for who in (name, issuer)]
    subject, by = (x509.Name([x509.NameAttribute(*pair) for pair in each]) for each in names)
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(by, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
        now + datetime.timedelta(days=9)
    )
    usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    usage |= {"digital_signature": True, "key_cert_sign": of_authority, "crl_sign": of_authority}
    extensions = [
        (x509.BasicConstraints(ca=of_authority, path_length=None), True),
        (x509.KeyUsage(**usage, encipher_only=False, decipher_only=False), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ]
    if not of_authority:
        extensions.append((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}


def write_identity(folder, kind: str = "P-256"):
    """Files of a chain of certificates of Ada, and of her key."""
    authority, own = KEYS["P-256"](), KEYS[kind]()
    chain = [
        certificate("Ada", own, "Root", authority, of_authority=False),
        certificate("Root", authority, "Root", authority, of_authority=True),
    ]
    pem = serialization.Encoding.PEM
    (folder / "chain.pem").write_bytes(b"".join(each.public_bytes(pem) for each in chain))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(own.private_bytes(pem, *plain))
    return folder / "chain.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return write_identity(tmp_path_factory.mktemp("identity"))


def picture(path):
    pixels = np.random.default_rng(0).integers(0, 256, [64, 64, 3], np.uint8)
    save(pixels, path, recipe=RECIPE)
    return pixels


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_picture_is_signed_and_stays_what_it_was(tmp_path, identity, suffix):
    file = tmp_path / f"picture{suffix}"
    picture(file)
    before = np.asarray(Image.open(file))
    assert not present(file) and read(file) is None
    Signer(*identity).sign(file, RECIPE)
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    found = read(file)
    assert present(file) and found.by == "Ada, Atelier" and found.unchanged
    assert found.reasons == ["signingCredential.untrusted"]  # nobody knows a self-made authority
    assert np.array_equal(np.asarray(Image.open(file)), before) and read_recipe(file).recipe == RECIPE
    assert read_recipe(file).marked


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_each_kind_sign(tmp_path, kind):
    picture(tmp_path / "a.png")
    Signer(*write_identity(tmp_path, kind)).sign(tmp_path / "a.png", RECIPE)
    assert read(tmp_path / "a.png").unchanged


def test_what_is_changed_after_signing_is_seen(tmp_path, identity):
    file = tmp_path / "a.png"
    picture(file)
    Signer(*identity).sign(file, RECIPE)
    content = bytearray(file.read_bytes())
    place = content.rindex(b"IDAT") + 200
    content[place] ^= 1
    file.write_bytes(content)
    found = read(file)
    assert not found.unchanged and any("mismatch" in reason.lower() for reason in found.reasons)


def test_generated_pictures_are_signed_and_verified(tiny_run, tmp_path, identity):
    chain, key = identity
    sign = ("--sign-certificate", chain, "--sign-key", key, "--device", "cpu")
    done = [
        run_salon("generate", "images", tiny_run, "--seeds", "0-1", "--out", tmp_path / "f", *sign),
        run_salon("generate", "mix", tiny_run, "--rows", "0", "--columns", "1", "--out", tmp_path / "mix.jpg", *sign),
        run_salon(
            "generate", "interpolate", tiny_run, "--seeds", "0", "--frames", "2", "--out", tmp_path / "l.mp4", *sign
        ),
    ]
    assert [outcome.code for outcome in done] == [0, 0, 0], done
    files = [*(tmp_path / "f").iterdir(), tmp_path / "mix.jpg"]
    outcome = run_salon("verify", *files, "--snapshot", tiny_run, "--device", "cpu")
    assert outcome.code == 0 and outcome.out.count("  Signed by Ada, Atelier, unchanged since") == 3
    told = json.loads(run_salon("verify", tmp_path / "l.mp4", "--json").out)["pictures"][0]
    assert told["signature"]["by"] == "Ada, Atelier" and told["recipe"]["kind"] == "interpolation"
    other = tmp_path / "mix.jpg"
    content = bytearray(other.read_bytes())
    content[-3] ^= 1  # of the last pixels
    other.write_bytes(content)
    outcome = run_salon("verify", files[0], other)
    assert outcome.code == 3 and "CHANGED SINCE" in outcome.out


def test_what_cannot_sign_is_refused_before_anything_is_generated(tiny_run, tmp_path, identity):
    chain, key = identity
    (tmp_path / "other").mkdir()
    _, other = write_identity(tmp_path / "other")
    (tmp_path / "text.pem").write_text("no key")
    secret = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    (tmp_path / "secret.pem").write_bytes(secret)
    words = ("generate", "images", tiny_run, "--seeds", "0", "--out", tmp_path / "f", "--device", "cpu")
    for options, message in (
        (("--sign-certificate", chain), "--sign-key must be given too"),
        (("--sign-key", key), "--sign-certificate must be given too"),
        (("--sign-certificate", chain, "--sign-key", tmp_path / "text.pem"), "--sign-key must be a private key in PEM"),
        (("--sign-certificate", chain, "--sign-key", tmp_path / "secret.pem"), "must be a private key in PEM"),
        (("--sign-certificate", tmp_path / "absent.pem", "--sign-key", key), "No such file"),
        (("--sign-certificate", tmp_path / "text.pem", "--sign-key", key), "must be a chain of certificates in PEM"),
        (("--sign-certificate", chain, "--sign-key", other), "the one of --sign-key first"),
        (("--sign-certificate", chain, "--sign-key", key, "--no-metadata"), "signs the mark and the recipe"),
    ):
        refused(run_salon(*words, *options), message)
    assert not (tmp_path / "f").exists()
