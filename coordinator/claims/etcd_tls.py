"""TLS to etcd: whom a cell trusts, and by which certificate it is known."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from coordinator.errors import SettingsError

_CA: Final = "CLAIMS_CA_FILE"
_CERT: Final = "CLAIMS_CERT_FILE"
_KEY: Final = "CLAIMS_KEY_FILE"


def client_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """Return what connects to etcd: TLS 1.2 or newer, the server's name checked.

    `ca_file` holds the authorities to trust in place of the system's. `cert_file` is the client certificate with its
    chain, and holds its key too where there is no `key_file`. All are PEM. Raises SettingsError, which names the
    variable and nothing of what the file holds.
    """
    authorities = None if ca_file is None else _read(_CA, ca_file)
    try:
        context = ssl.create_default_context(cadata=authorities)
    except (ssl.SSLError, ValueError):  # ValueError: it is no text, or empty
        raise SettingsError(f"{_CA}: the file holds no certificate of an authority in PEM format.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None:
        _identify(context, cert_file, key_file)
    elif key_file is not None:
        raise SettingsError(f"{_KEY} needs {_CERT}: the certificate that the key belongs to.")
    return context


def _identify(context: ssl.SSLContext, cert_file: Path, key_file: Path | None) -> None:
    certificate = _read(_CERT, cert_file)
    variable, key = (_CERT, certificate) if key_file is None else (_KEY, _read(_KEY, key_file))
    if "-----BEGIN CERTIFICATE-----" not in certificate:
        raise SettingsError(f"{_CERT}: the file holds no certificate in PEM format.")
    if "PRIVATE KEY-----" not in key:
        cure = f" name the file of the key in {_KEY}" if key_file is None else " in PEM format"
        raise SettingsError(f"{variable}: the file holds no private key;{cure}.")
    try:
        # With a password, OpenSSL does not ask for one on the terminal.
        context.load_cert_chain(cert_file, key_file, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"{variable}: the key is not that of the certificate in {_CERT}.") from None
        # Of a key under a password, OpenSSL tells no more than of one that is broken.
        hint = "has a password; write it without one" if "ENCRYPTED" in key else "or the certificate cannot be used"
        raise SettingsError(f"{variable}: the key {hint}.") from None


def _read(variable: str, file: Path) -> str:
    try:
        return file.read_text("ascii")
    except OSError as error:
        raise SettingsError(f"{variable}: the file cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}: the file is not in PEM format.") from None
