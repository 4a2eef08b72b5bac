"""TLS to etcd: whom a cell trusts, and by which certificate it is known."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Final

from coordinator.errors import SettingsError

_CA: Final = "CLAIMS_CA_FILE"
_CERT: Final = "CLAIMS_CERT_FILE"
_KEY: Final = "CLAIMS_KEY_FILE"
_CERTIFICATE: Final = "CERTIFICATE-----"
_PRIVATE_KEY: Final = "PRIVATE KEY-----"


class Tls:
    """TLS 1.2 or newer with the server's name checked, by files that may be replaced: certificates are renewed."""

    def __init__(self, ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> None:
        """`ca_file` holds the authorities to trust in place of the system's.

        `cert_file` is the client certificate with its chain, and holds its key too where there is no `key_file`. All
        are PEM. Raises SettingsError, which names the variable and nothing of what the file holds.
        """
        self._files = ca_file, cert_file, key_file
        self._versions = self._look()
        self._context = _make_context(*self._files)

    @property
    def has_certificate(self) -> bool:
        """Whether there is a client certificate."""
        return self._files[1] is not None

    def context(self) -> ssl.SSLContext:
        """Return what makes a new connection: of the files as they are now, or as they last could be used."""
        versions = self._look()
        if versions != self._versions:
            # Of a certificate and its key, one is replaced first: until then the two before are as good.
            with contextlib.suppress(SettingsError):
                self._context = _make_context(*self._files)
                self._versions = versions
        return self._context

    def _look(self) -> list[tuple[int, int]]:
        """Return what tells whether a file was replaced; nothing for one that is not there."""
        found = []
        for file in filter(None, self._files):
            with contextlib.suppress(OSError):
                stat = file.stat()
                found.append((stat.st_ino, stat.st_mtime_ns))
        return found


def _make_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=None if ca_file is None else _read(_CA, ca_file, _CERTIFICATE))
    except (ssl.SSLError, ValueError):
        raise SettingsError(f"{_CA}: a certificate in the file cannot be used.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None:
        _identify(context, cert_file, key_file)
    elif key_file is not None:
        raise SettingsError(f"{_KEY} needs {_CERT}: the certificate that the key belongs to.")
    return context


def _identify(context: ssl.SSLContext, cert_file: Path, key_file: Path | None) -> None:
    certificate = _read(_CERT, cert_file, _CERTIFICATE)
    if key_file is not None:
        variable, key = _KEY, _read(_KEY, key_file, _PRIVATE_KEY)
    elif _PRIVATE_KEY in certificate:
        variable, key = _CERT, certificate
    else:
        raise SettingsError(f"{_CERT}: the file holds no private key; name the file of the key in {_KEY}.")
    try:
        # With a password, OpenSSL does not ask for one on the terminal.
        context.load_cert_chain(cert_file, key_file, password="")
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"{variable}: the key is not that of the certificate in {_CERT}.") from None
        # Of a key under a password, OpenSSL tells no more than of one that is broken.
        if "ENCRYPTED" in key:
            raise SettingsError(f"{variable}: the key has a password; write it without one.") from None
        raise SettingsError(f"{variable}: the key, or the certificate in {_CERT}, cannot be used.") from None


def _read(variable: str, file: Path, label: str) -> str:
    try:
        text = file.read_text("ascii")
    except OSError as error:
        raise SettingsError(f"{variable}: the file cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        text = ""
    if label not in text:
        raise SettingsError(f"{variable}: the file holds no {label.rstrip('-').lower()} in PEM format.")
    return text
