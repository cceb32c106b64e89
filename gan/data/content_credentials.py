"""Content Credentials (C2PA 2.x): a picture's mark, signed with the user's own certificate, and read back.

The extra `c2pa` brings the library. Nothing is fetched from anywhere, neither time stamps nor lists of revoked
certificates nor manifests: what a signature says is checked, not whether its certificate is known to be trusted.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gan.data.recipe import Recipe
from gan.data.xmp import mark
from gan.errors import RequestError
from gan.runtime.files import atomic

NEEDED = "needs pip install 'salon[c2pa]'"
_LOCAL = {  # no small image inside of the picture, and no questions to other machines
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Who signed a picture, and whether it is as it was then."""

    by: str  # the certificate's name and issuer, as it says
    unchanged: bool
    reasons: list[str]  # codes of what is wrong with it, as C2PA names them


class Signer:
    """Signs files of pictures with a certificate and its private key, both PEM.

    `certificate` is the chain, the signer's first. Raises RequestError, which names `sign_certificate` or `sign_key`,
    for files that are none, and where the extra is not installed.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._c2pa = _library("`sign_certificate`")
        chain, private = _read(certificate, "sign_certificate"), _read(key, "sign_key")
        self._certificate = certificate
        algorithm = _algorithm(chain, private, certificate, key)
        self._info = self._c2pa.C2paSignerInfo(
            alg=algorithm.encode(), sign_cert=chain, private_key=private, ta_url=None
        )

    def sign(self, path: Path, recipe: Recipe) -> None:
        """Sign a file that holds a generated picture, in place and atomically. Raises RequestError where it cannot."""
        source_type = mark(recipe.to_dict())
        manifest = {
            "claim_generator_info": [{"name": "Salon", "version": recipe.salon}],
            "title": path.name,
            "assertions": [
                {
                    "label": "c2pa.actions.v2",
                    "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": source_type}]},
                },
                {"label": "salon.recipe", "data": recipe.to_dict()},
            ],
        }
        with atomic(path) as temporary:
            signed = temporary.with_name(f".{path.name}.signed.partial{path.suffix}")
            try:
                builder = self._c2pa.Builder(json.dumps(manifest), context=_context(self._c2pa))
                builder.sign_file(path, signed, self._c2pa.Signer.from_info(self._info))
                temporary.write_bytes(signed.read_bytes())
            except self._c2pa.C2paError as error:
                raise RequestError(f"`sign_certificate` {self._certificate} cannot sign {path}: {error}") from error
            finally:
                signed.unlink(missing_ok=True)


def read(path: Path) -> Signature | None:
    """The signature of a picture; None where there is none. Raises RequestError where the extra is not installed."""
    c2pa = _library("a signature")
    try:
        with c2pa.Reader(path, context=_context(c2pa)) as reader:
            told = json.loads(reader.json())
    except c2pa.C2paError as error:
        if "ManifestNotFound" in str(error) or "no JUMBF" in str(error):
            return None
        return Signature(by="unknown", unchanged=False, reasons=[str(error)])
    active = told["manifests"][told["active_manifest"]]
    info = active.get("signature_info", {})
    by = ", ".join(info[name] for name in ("common_name", "issuer") if info.get(name))
    reasons = [status["code"] for status in told.get("validation_status", [])]
    return Signature(by=by or "unknown", unchanged=told.get("validation_state") != "Invalid", reasons=reasons)


def present(path: Path) -> bool:
    """Whether a file seems to have Content Credentials, without the library that reads them."""
    content = path.read_bytes()
    return b"jumb" in content and b"c2pa" in content


def _library(who: str) -> ModuleType:
    try:
        import c2pa
    except ImportError as error:
        raise RequestError(f"{who} {NEEDED}: {error}") from error
    module: ModuleType = c2pa
    return module


def _context(c2pa: ModuleType) -> Any:
    return c2pa.Context(settings=c2pa.Settings.from_dict(_LOCAL))


def _read(file: Path, parameter: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RequestError(f"`{parameter}` {file} cannot be read: {error.strerror}") from error


def _algorithm(chain: bytes, private: bytes, certificate: Path, file: Path) -> str:
    # By the key, which must be the first certificate's.
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        key = load_pem_private_key(private, None)
    except (ValueError, TypeError) as error:  # encrypted ones too
        raise RequestError(
            f"`sign_key` must be a private key in PEM, without a password; got {file} instead"
        ) from error
    spki = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    try:
        (own, *_) = x509.load_pem_x509_certificates(chain)
        fits = own.public_key().public_bytes(*spki) == key.public_key().public_bytes(*spki)
    except ValueError:
        fits = False
    if not fits:
        raise RequestError(
            f"`sign_certificate` must be a chain of certificates in PEM, the one of `sign_key` first; got "
            f"{certificate} instead"
        )
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    raise RequestError(f"`sign_key` must be a key of P-256, P-384, P-521, Ed25519 or RSA; got {file} instead")
