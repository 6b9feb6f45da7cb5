"""Certificates and keys that a client is given, read from their files and judged before gRPC sees them.

Responsible for naming the file that is wrong and what is wrong with it: gRPC would say so in C++ log lines, if at all.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from waymaker.client.errors import UsageError

if TYPE_CHECKING:
    from waymaker.client.tls.tls import TLS

GRPC_ROOTS_VARIABLE: Final = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
SYSTEM_ROOTS: Final = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)  # fmt: skip
"""Places of the authorities that systems trust, beside the place that OpenSSL knows."""


class Material(NamedTuple):
    """PEM bytes for gRPC. `roots` None: gRPC's own list."""

    roots: bytes | None
    key: bytes | None
    certificate: bytes | None


def read_material(tls: TLS) -> Material:
    """Read the files of `tls`; UsageError where one cannot be used."""
    roots = _system_roots() if tls.ca is None else _read(tls.ca)
    if tls.ca is not None:
        _check_authorities(tls.ca)
    if tls.cert is None or tls.key is None:
        return Material(roots, None, None)
    certificate, key = _read(tls.cert), _read(tls.key)
    _check_pair(tls.cert, tls.key)
    return Material(roots, key, certificate)


def context_of(tls: TLS, protocol: str = "h2") -> ssl.SSLContext:
    """Return the same trust as a context of the standard library."""
    roots = str(tls.ca) if tls.ca is not None else system_roots_file()
    context = ssl.create_default_context(cafile=roots)
    context.set_alpn_protocols([protocol])
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


def system_roots_file() -> str | None:
    """Return the file of the authorities that this system trusts, where it has one."""
    if os.environ.get(GRPC_ROOTS_VARIABLE):
        return None  # gRPC reads it itself
    known = (ssl.get_default_verify_paths().cafile, *SYSTEM_ROOTS)
    return next((path for path in known if path and os.access(path, os.R_OK)), None)


def _system_roots() -> bytes | None:
    path = system_roots_file()
    return None if path is None else _read(path)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _check_authorities(path: str | Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise UsageError(
            f"{path} holds no certificate of an authority; it has to be a PEM file of certificates"
        ) from None


def _check_pair(certificate: str | Path, key: str | Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedError:
        raise UsageError(f"the key in {key} is encrypted; give it without a passphrase") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"the key in {key} does not belong to the certificate in {certificate}") from None
        raise UsageError(f"{certificate} and {key} are not a certificate and its private key, each in PEM") from None


class _EncryptedError(Exception):
    """A key asks for its passphrase."""


def _no_password() -> str:
    raise _EncryptedError
