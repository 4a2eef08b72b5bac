"""Make a browser trust a private certificate authority: all three read NSS's certificate store, which certutil writes.

Chromium looks for it in its home (`.pki/nssdb`), Firefox and Camoufox in their profile. Playwright makes the
profile only as it starts the browser, so `bin/bound-browser` copies the store there.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
from pathlib import Path

from browser.errors import EngineMissing, TrustError
from browser.settings import EngineName

HOME_NAME = "home"
_STORE = Path(".pki/nssdb")
_COMMANDS = "commands"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


async def trust_environment(engine: EngineName, extra_ca_file: Path | None, run_dir: Path) -> dict[str, str]:
    """Make a store of the file's certificates below run_dir; return the variables that point the browser to it.

    Raises TrustError if the file holds no certificates, EngineMissing without certutil.
    """
    if extra_ca_file is None:
        return {}
    certificates = _read_certificates(extra_ca_file)
    certutil = shutil.which("certutil")
    if certutil is None:
        raise EngineMissing(
            "certutil is not on PATH, and without it no browser can be told of EXTRA_CA_FILE; "
            "install the package libnss3-tools"
        )
    home = run_dir / HOME_NAME
    store = home / _STORE
    _write_commands(store, certificates)
    for arguments in (("-N", "--empty-password"), ("-B", "-i", _COMMANDS)):
        process = await asyncio.create_subprocess_exec(
            certutil,
            *arguments,
            *("-d", "sql:."),
            cwd=store,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode != 0:
            said = errors.decode(errors="replace").strip().rpartition("\n")[2][:200]
            raise TrustError(f"EXTRA_CA_FILE: certutil cannot take the certificates of {extra_ca_file}: {said}")
    return {"HOME": str(home)} if engine == "chromium" else {"TABFLEET_BROWSER_TRUST": str(store)}


def _read_certificates(extra_ca_file: Path) -> list[str]:
    try:
        found = _CERTIFICATE.findall(extra_ca_file.read_text(encoding="utf-8", errors="replace"))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata="\n".join(found))
    except (ssl.SSLError, ValueError):
        raise TrustError(f"EXTRA_CA_FILE: {extra_ca_file} holds no certificates in PEM form") from None
    except OSError as error:
        raise TrustError(f"EXTRA_CA_FILE: {extra_ca_file} cannot be read: {error.strerror}") from None
    return list(dict.fromkeys(found))  # a bundle may hold one twice


def _write_commands(store: Path, certificates: list[str]) -> None:
    """Write a file of commands, by which one process of certutil adds all certificates at once.

    `-t C,,` means an authority for servers.
    """
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir(mode=0o700, parents=True)
    commands = []
    for number, certificate in enumerate(certificates, 1):
        (store / f"{number}.pem").write_text(f"{certificate}\n", encoding="ascii")
        commands.append(f"-A -d sql:. -n extra-{number} -t C,, -a -i {number}.pem\n")
    (store / _COMMANDS).write_text("".join(commands), encoding="ascii")
