"""EXTRA_CA_FILE: a site with a certificate of a private authority, in real browsers, and files that hold none."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browser.errors import EngineMissing, TrustError
from browser.process import engine
from browser.process.engine import Launch, find_executable
from browser.process.trust import trust_environment
from browser.settings import BrowserSettings, EngineName
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, demo_file
from tests.browser.profiles import cookie_state
from tests.coordinator.profiles_support.relay import relay
from tests.support.authority import Authority

if TYPE_CHECKING:
    from browser.site.load import Site
    from demo.site import DemoSite


@dataclass(frozen=True)
class Behind:
    """The demo site behind TLS, and the authority to trust."""

    site: Site
    authority: Path


@pytest.fixture
def behind(demo: DemoSite, tmp_path: Path) -> Iterator[Behind]:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("127.0.0.1"))
    with relay(demo.url, tls=context) as running:
        yield Behind(demo_file(demo).model_copy(update={"url": f"{running.url}/chat"}), authority.file)


async def test_an_authority_is_not_trusted_by_default(pages: Pages, demo: DemoSite, behind: Behind) -> None:
    page = await pages.open(behind.site, cookie_state(demo))
    assert page.status.reason == "page_broken"
    assert page.status.detail == f"opening {behind.site.url} failed"


async def test_the_extra_authority_is_trusted(
    pages: Pages, demo: DemoSite, behind: Behind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twice the same authority, another one before it, and words around them: all of this is found in such files.
    other = Authority(tmp_path, "other").file.read_text()
    named = behind.authority.read_text()
    bundle = tmp_path / "company authorities.pem"
    bundle.write_text(f"The company's authorities\n{other}\nand\n{named}\n{named}", encoding="utf-8")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    page = await pages.open(behind.site, cookie_state(demo), extra_ca_file=bundle)
    assert page.status.ready, page.status
    check_answer(await ask(page, "hello"), "hello", last(demo))


@pytest.mark.firefox
@pytest.mark.parametrize("engine_name", ["firefox", "camoufox"])
async def test_the_extra_authority_is_trusted_by_firefox(
    pages: Pages, demo: DemoSite, behind: Behind, engine_name: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    firefox = find_executable("firefox", BrowserSettings())
    monkeypatch.setattr(engine, "find_camoufox", lambda _: firefox)
    monkeypatch.setattr(engine, "camoufox_options", _firefox_options)
    page = await pages.open(behind.site, cookie_state(demo), engine=engine_name)
    assert page.status.reason == "page_broken"
    await page.close()
    page = await pages.open(behind.site, cookie_state(demo), engine=engine_name, extra_ca_file=behind.authority)
    assert page.status.ready, page.status
    check_answer(await ask(page, "hello"), "hello", last(demo))


def _firefox_options(plan: Launch) -> dict[str, Any]:
    return engine.launch_options(plan) | {"channel": "moz-firefox"}


async def test_without_a_file_no_store_is_made(tmp_path: Path) -> None:
    assert await trust_environment("chromium", None, tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file or directory"),
        ("not a certificate", "holds no certificates in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificates in PEM form"),
    ],
)
async def test_a_file_without_certificates(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(TrustError, match=f"^EXTRA_CA_FILE: .*ca.pem {says}$"):
        await trust_environment("chromium", file, tmp_path)


async def test_a_missing_certutil_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"certutil is not on PATH.*EXTRA_CA_FILE.*libnss3-tools"):
        await trust_environment("chromium", Authority(tmp_path).file, tmp_path)


async def test_an_error_of_certutil_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certutil = tmp_path / "certutil"
    certutil.write_text("#!/bin/sh\necho the disk is full >&2\nexit 255\n")
    certutil.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(TrustError, match=r"certutil cannot take the certificates of .*ca\.pem: the disk is full$"):
        await trust_environment("firefox", Authority(tmp_path).file, tmp_path)
