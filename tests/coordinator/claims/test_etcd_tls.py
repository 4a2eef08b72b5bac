"""Certificates between a cell and etcd, and what a cell says of files that it cannot use."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from coordinator.claims.etcd import EtcdClaims
from coordinator.claims.shared import SharedSettings
from coordinator.claims.store import StoreRefused, StoreUnreachable, View
from coordinator.errors import SettingsError
from tests.coordinator.claims.etcd_cells import CANARY, Files, connect, store
from tests.coordinator.claims.worlds import LONG_TTL_S, make_known
from tests.support.authority import Authority
from tests.support.etcd import Etcd, Tls, etcd_server
from tests.support.ports import NOWHERE

RESET = "breaks the connection off; check CLAIMS_CERT_FILE"
"""Said where etcd has reset the connection before its own words were read."""


async def refusal(urls: Sequence[str], files: Files) -> str:
    """Return what a cell says that is refused at its start."""
    async with store(urls, files) as cell:
        with pytest.raises((StoreRefused, StoreUnreachable)) as refused:
            await cell.register("a", SharedSettings(LONG_TTL_S), 5)
    return str(refused.value)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Etcd, Files]]:
    """An etcd that asks for client certificates, and the files of a cell that it lets in."""
    folder = tmp_path_factory.mktemp("secure")
    tls = Tls.make(folder)
    with etcd_server(folder, tls=tls) as running:
        yield running, Files(tls.authority.file, tls.cert_file, tls.key_file)


class TestCertificates:
    async def test_a_cell_is_known_by_its_certificate(self, secure: tuple[Etcd, Files]) -> None:
        etcd, files = secure
        async with store(etcd.urls, files) as cell:
            await make_known(cell)
            await cell.register("a", SharedSettings(LONG_TTL_S), 5)
            await cell.renew()
            assert await cell.claim("ann", None)
            await cell.revoke()

    async def test_certificate_and_key_may_be_one_file(self, secure: tuple[Etcd, Files], tmp_path: Path) -> None:
        etcd, files = secure
        assert files.key
        assert files.cert
        both = tmp_path / "both.pem"
        both.write_text(files.key.read_text() + files.cert.read_text())
        async with store(etcd.urls, Files(files.ca, both)) as cell:
            assert await cell.view() == View()

    async def test_without_one_it_is_refused(self, secure: tuple[Etcd, Files]) -> None:
        etcd, files = secure
        said = await refusal(etcd.urls, Files(files.ca))
        assert "asks for a client certificate" in said or RESET in said
        assert "CLAIMS_CERT_FILE" in said
        assert etcd.members[0].address in said

    async def test_by_another_authority_it_is_refused(self, secure: tuple[Etcd, Files], tmp_path: Path) -> None:
        etcd, files = secure
        said = await refusal(etcd.urls, Files(files.ca, *Authority(tmp_path, "b").sign("cell.example", client=True)))
        assert "refuses the certificate in CLAIMS_CERT_FILE" in said or RESET in said

    @pytest.mark.parametrize("name", ["etcd-ca", "another"])
    async def test_etcd_of_an_unknown_authority_is_not_trusted(
        self, secure: tuple[Etcd, Files], tmp_path: Path, name: str
    ) -> None:
        for ca in (None, Authority(tmp_path, name).file):
            said = await refusal(secure[0].urls, Files(ca))
            assert "unknown authority; name it in CLAIMS_CA_FILE" in said

    async def test_etcd_under_another_name_is_not_trusted(self, secure: tuple[Etcd, Files]) -> None:
        etcd, files = secure
        said = await refusal([url.replace("127.0.0.1", "localhost") for url in etcd.urls], files)
        assert "certificate for another name; check CLAIMS_URL" in said

    async def test_a_certificate_may_be_replaced(self, secure: tuple[Etcd, Files], tmp_path: Path) -> None:
        """That of a long-lived cell is out of date one day; here the first is one that etcd never took."""
        etcd, files = secure
        own = Files(files.ca, *Authority(tmp_path, "another").sign("cell.example", client=True))
        async with store(etcd.urls, own) as cell:
            with pytest.raises((StoreRefused, StoreUnreachable), match="CLAIMS_CERT_FILE"):
                await cell.view()
            replace(own.cert, files.cert)
            # The new one with the old key: as before.
            with pytest.raises((StoreRefused, StoreUnreachable), match="CLAIMS_CERT_FILE"):
                await cell.view()
            replace(own.key, files.key)
            assert await cell.view() == View()

    @pytest.mark.parametrize("swap", [("http://", "https://"), ("https://", "http://")])
    async def test_the_wrong_scheme_is_told(
        self, secure: tuple[Etcd, Files], etcd: Etcd, swap: tuple[str, str]
    ) -> None:
        urls = [url.replace(*swap, 1) for url in (etcd if swap[0] == "http://" else secure[0]).urls]
        async with store(urls) as cell:
            with pytest.raises((StoreUnreachable, StoreRefused), match="CLAIMS_URL is to begin with"):
                await cell.view()


def replace(file: Path | None, by: Path | None) -> None:
    """Replace a file in one step, as what renews certificates does."""
    assert file
    assert by
    shutil.copy(by, new := file.with_name("new"))
    new.replace(file)


class TestFiles:
    """Those of certificates, before any connection."""

    @pytest.fixture
    def good(self, tmp_path: Path) -> Files:
        tls = Tls.make(tmp_path)
        return Files(tls.authority.file, tls.cert_file, tls.key_file)

    @staticmethod
    def error(files: Files) -> str:
        with pytest.raises(SettingsError) as wrong:
            connect([NOWHERE], files, timeout_s=1)
        said = str(wrong.value)
        assert CANARY not in said
        assert not any(str(file) in said for file in (files.ca, files.cert, files.key))
        return said

    @pytest.mark.parametrize("content", [b"", CANARY.encode(), b"\xff\0" + CANARY.encode()])
    def test_each_is_named_that_holds_something_else(self, good: Files, tmp_path: Path, content: bytes) -> None:
        bad = tmp_path / "bad.pem"
        bad.write_bytes(content)
        assert self.error(Files(ca=bad)).startswith("CLAIMS_CA_FILE: the file holds no certificate")
        assert self.error(Files(cert=bad, key=good.key)).startswith("CLAIMS_CERT_FILE: the file holds no certificate")
        assert self.error(Files(cert=good.cert, key=bad)).startswith("CLAIMS_KEY_FILE: the file holds no private key")

    def test_what_only_looks_like_one_is_named(self, good: Files, tmp_path: Path) -> None:
        certificate, key = tmp_path / "bad.pem", tmp_path / "bad.key"
        for label, file in (("CERTIFICATE", certificate), ("PRIVATE KEY", key)):
            file.write_text(f"-----BEGIN {label}-----\n{CANARY}\n-----END {label}-----\n")
        assert self.error(Files(ca=certificate)).startswith("CLAIMS_CA_FILE")
        assert "CLAIMS_CERT_FILE" in self.error(Files(cert=certificate, key=good.key))
        assert self.error(Files(cert=good.cert, key=key)).startswith("CLAIMS_KEY_FILE")

    def test_names_are_checked_by_tls_of_these_days(self) -> None:
        context = EtcdClaims([NOWHERE], timeout_s=1)._gateway._tls.context()
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED

    def test_each_is_named_that_cannot_be_read(self, good: Files, tmp_path: Path) -> None:
        for bad in (tmp_path / "none.pem", tmp_path):
            for variable, files in {
                "CLAIMS_CA_FILE": Files(ca=bad),
                "CLAIMS_CERT_FILE": Files(cert=bad, key=good.key),
                "CLAIMS_KEY_FILE": Files(cert=good.cert, key=bad),
            }.items():
                assert self.error(files).startswith(f"{variable}: the file cannot be read: ")

    def test_a_key_is_to_be_there_and_to_fit(self, good: Files, tmp_path: Path) -> None:
        assert "name the file of the key in CLAIMS_KEY_FILE" in self.error(Files(cert=good.cert))
        assert "CLAIMS_KEY_FILE needs CLAIMS_CERT_FILE" in self.error(Files(key=good.key))
        _, other = Authority(tmp_path, "other").sign("other.example", client=True)
        assert "the key is not that of the certificate" in self.error(Files(cert=good.cert, key=other))

    def test_a_key_with_a_password_is_refused_without_asking_for_it(self, good: Files, tmp_path: Path) -> None:
        assert good.key
        key = serialization.load_pem_private_key(good.key.read_bytes(), None)
        locked = tmp_path / "locked.key"
        locked.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(CANARY.encode()),
            )
        )
        assert "has a password" in self.error(Files(cert=good.cert, key=locked))
