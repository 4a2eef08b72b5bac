"""What HTTPS_PROXY and NO_PROXY mean, and which texts are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.proxies import Proxy, no_proxy_of, parse_no_proxy, parse_own_proxy, parse_proxy, read_own_proxy


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.test:3128", Proxy("http", "proxy.test", 3128)),
        ("https://proxy.test/", Proxy("https", "proxy.test", 443)),
        ("http://10.0.0.1", Proxy("http", "10.0.0.1", 80)),
        ("http://us%40er:p%23%2Fss@[fd00::1]:3128", Proxy("http", "fd00::1", 3128, "us@er", "p#/ss")),
    ],
)
def test_a_proxy(text: str, proxy: Proxy) -> None:
    assert parse_proxy(text) == proxy


def test_the_address_of_a_proxy_has_ipv6_in_brackets_and_no_login() -> None:
    assert parse_proxy("http://user:hunter2@[fd00::1]:3128").server == "http://[fd00::1]:3128"
    assert "hunter2" not in repr(parse_proxy("http://user:hunter2@proxy:3128"))


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2#1@proxy.test:3128",
        "http://user#hunter2@proxy.test:3128",
        "http://user:hunter2/1@proxy.test:3128",
        "http://user:1/hunter2@proxy.test:3128",
        "http://user:1?hunter2@proxy.test:3128",
        "http://hunter2.test:port",
        "http://hunter2.test:70000",
        "http://hunter2.test:0",
        "http://fd00::1:3128",
        "http://[hunter2]:3128",
        "http://hunter 2.test:3128",
        "http://10.0.0:3128",
        "socks5://hunter2.test:1080",
        "hunter2.test:3128",
        "http://:3128",
        "hunter2",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="takes http://HOST:PORT") as caught:
        parse_proxy(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("socks5://proxy.test", Proxy("socks5", "proxy.test", 1080)),
        ("socks5h://us%40er:p%3Ass@10.0.0.1:9050", Proxy("socks5", "10.0.0.1", 9050, "us@er", "p:ss")),
        ("https://user:p%C3%A4ss@proxy.test", Proxy("https", "proxy.test", 443, "user", "päss")),
    ],
)
def test_a_logins_own_proxy_may_be_a_socks_server(tmp_path: Path, text: str, proxy: Proxy) -> None:
    assert parse_own_proxy(text) == proxy
    file = tmp_path / "proxy"
    for written in (f"{text}\n", f"\ufeff{text}\r\n"):  # the second as editors on Windows write it
        file.write_bytes(written.encode())
        assert read_own_proxy(file) == proxy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("socks4://user:hunter2@proxy.test", "takes http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"),
        ("hunter2", "takes http://HOST:PORT"),
        ("", "takes http://HOST:PORT"),
        ("http://a%3Ahunter2:b@proxy.test", "has a user name with a colon"),
        ("socks5://user:hunter2%C3%A4@proxy.test", "has a password that SOCKS5 cannot send"),
        ("socks5://hunter2@proxy.test", "has a password that SOCKS5 cannot send"),
        (f"socks5://{'u' * 256}:hunter2@proxy.test", "has a user name that SOCKS5 cannot send"),
    ],
    ids=range(7),
)
def test_what_is_no_proxy_of_a_login_is_refused_without_being_shown(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "proxy"
    file.write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        parse_own_proxy(text)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match=says) as caught:
        read_own_proxy(file)
    assert "hunter2" not in str(caught.value)


def test_a_proxy_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere cannot be read: No such file"):
        read_own_proxy(tmp_path / "nowhere")
    (tmp_path / "latin").write_bytes(b"http://me:\xe4@proxy")
    with pytest.raises(ValueError, match="latin is no text in UTF-8"):
        read_own_proxy(tmp_path / "latin")


@pytest.mark.parametrize(
    "entry", ["example.test", ".example.test", "*.example.test", "EXAMPLE.test.", " example.test "]
)
def test_a_name_stands_for_all_below_it_however_it_is_written(entry: str) -> None:
    direct = parse_no_proxy(entry)
    assert direct.covers("https://example.test/")
    assert direct.covers("https://Chat.Example.test.:8443/")
    assert not direct.covers("https://notexample.test/")
    assert not direct.covers("https://test/")


@pytest.mark.parametrize(
    ("entry", "address", "direct"),
    [
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.1.2.9/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://ten.test/", False),
        ("fd00::/8", "http://[fd12::1]:81/", True),
        ("[fd00::1]", "http://[fd00:0::1]/", True),
        ("fd00::1", "http://[fd00::2]/", False),
        ("[fd00::1]:81", "http://[fd00::1]/", False),
        ("10.1.2.3:443", "https://10.1.2.3/", True),
        ("example.test:443", "https://sub.example.test/", True),
        ("example.test:443", "http://example.test/", False),
        ("b\u00fccher.test", "https://xn--bcher-kva.test/", True),
        ("a.test b.test,,c.test", "https://b.test/", True),
        ("a.test,*", "https://b.test/", True),
        ("", "http://localhost:9000/", True),
        ("", "http://sub.localhost/", True),
        ("", "http://127.9.9.9/", True),
        ("", "http://[::1]:9000/", True),
        ("", "http://169.254.169.254/latest/", True),
        ("", "http://example.test/", False),
    ],
)
def test_entries(entry: str, address: str, direct: bool) -> None:
    assert parse_no_proxy(entry).covers(address) is direct


@pytest.mark.parametrize(
    "entry",
    ["10.0.0.0/99", "10.*", "10.0", "ex*mple.test", "http://example.test", "a.test:0", "a.test:port", "[a]:1", "*."],
)
def test_an_entry_that_would_never_match_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host name, address or network"):
        parse_no_proxy(f"good.test, {entry}")


def test_the_variable_in_lower_case_comes_first() -> None:
    assert no_proxy_of({"NO_PROXY": "a.test", "no_proxy": "b.test"}) == parse_no_proxy("b.test")
    assert no_proxy_of({"NO_PROXY": "a.test"}) == parse_no_proxy("a.test")
    assert no_proxy_of({}) == parse_no_proxy("")
