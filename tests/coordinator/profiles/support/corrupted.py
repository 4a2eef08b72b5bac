"""Corrupted profiles: each with a cause of its own, and the exact reason it must be given.

Reasons are written out, never computed from the code's own tables, so that a case fails when its check
is taken out (`test_profiles_corrupted.py` takes out every one in turn).
"""

from __future__ import annotations

import base64
import errno
import gzip
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.coordinator.profiles.support.states import NULL, cookie, login, origin, state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD = login("ann")
DATABASE = {"name": "auth", "version": 1, "stores": []}
TAB = {"origin": "https://chat.example.com", "items": [{"name": "token", "value": "0123456789abcdef"}]}


@dataclass(frozen=True)
class Corrupted:
    """A profile's bytes, or how to place something else under its name, and the reason expected."""

    cause: str
    reason: str
    content: bytes = b""
    file_name: str = "bad.json"
    place: Callable[[Path], object] | None = None
    fault: OSError | None = None
    """What opening the file fails with."""
    beside: bytes = b""
    """A profile that comes before it."""

    def put(self, folder: Path) -> None:
        """Make it in a folder, with what stands beside it."""
        if self.beside:
            (folder / "ann.json").write_bytes(self.beside)
        path = folder / self.file_name
        if self.place:
            self.place(path)
        else:
            path.write_bytes(self.content)


def _with_cookie(cause: str, reason: str, **changes: object) -> Corrupted:
    return Corrupted(cause, reason, state(cookie(**changes)))


def _with_origin(cause: str, reason: str, **changes: object) -> Corrupted:
    return Corrupted(cause, reason, state(cookie(), origins=[origin(**changes)]))


def _with_tabs(cause: str, reason: str, tabs: object) -> Corrupted:
    return Corrupted(cause, reason, json.dumps({"cookies": [cookie()], "sessionStorage": tabs}).encode())


def _link_to_another_folder(path: Path) -> None:
    outside = path.parent.parent / "outside.json"
    outside.write_bytes(GOOD)
    path.symlink_to(outside)


def _file_for_the_group(path: Path) -> None:
    path.touch()
    path.chmod(0o640)


def _sparse_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(16 * 1024**3)


BYTES = (
    Corrupted("nothing in it", "is empty (0 bytes)", b""),
    Corrupted("only white space", "holds nothing but white space", b" \r\n\t\n"),
    Corrupted("gzip", "is compressed with gzip; unpack it", gzip.compress(GOOD)),
    Corrupted("zip", "is a zip archive; unpack it", b"PK\x03\x04\x14\x00" + GOOD),
    Corrupted(
        "SQLite",
        "is a browser's cookie database (SQLite), not a storage_state",
        b"SQLite format 3\x00\x10\x00",
    ),
    Corrupted(
        "UTF-16, little end first",
        "is UTF-16 text; save it as UTF-8",
        b"\xff\xfe" + GOOD.decode().encode("utf-16-le"),
    ),
    Corrupted(
        "UTF-16, big end first",
        "is UTF-16 text; save it as UTF-8",
        b"\xfe\xff" + GOOD.decode().encode("utf-16-be"),
    ),
    Corrupted(
        "UTF-32, little end first",
        "is UTF-32 text; save it as UTF-8",
        b"\xff\xfe\x00\x00" + GOOD.decode().encode("utf-32-le"),
    ),
    Corrupted(
        "UTF-32, big end first",
        "is UTF-32 text; save it as UTF-8",
        b"\x00\x00\xfe\xff" + GOOD.decode().encode("utf-32-be"),
    ),
    Corrupted(
        "UTF-16 without a mark",
        "holds NUL bytes: it is binary, damaged or UTF-16",
        GOOD.decode().encode("utf-16-le"),
    ),
    Corrupted(
        "Latin-1",
        "is not UTF-8 text (byte 13); save it as UTF-8",
        '{"cookies": "\xe9'.encode("latin-1").ljust(40),
    ),
    Corrupted("too large", "is larger than the 16777216 bytes a profile may have", GOOD.ljust(16 * 1024 * 1024 + 1)),
)
LOOKALIKES = (
    Corrupted(
        "Netscape cookies.txt",
        "is a Netscape cookies.txt, not a storage_state",
        b"# Netscape HTTP Cookie File\nchat.example.com\tTRUE\t/\tTRUE\t0\ta\tb\n",
    ),
    Corrupted(
        "Git LFS",
        "is a Git LFS pointer; fetch the file itself",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    ),
    Corrupted("Ansible Vault", "is encrypted with Ansible Vault; decrypt it", b"$ANSIBLE_VAULT;1.1;AES256\n3132\n"),
    Corrupted(
        "age",
        "is encrypted with age; decrypt it",
        b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n",
    ),
    Corrupted("PGP", "is encrypted with PGP; decrypt it", b"-----BEGIN PGP MESSAGE-----\n\nhQEM\n"),
    Corrupted(
        "the bucket's error document",
        "is an XML document, perhaps a storage service's error",
        b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
    ),
    Corrupted("a login page", "is an HTML page, not a storage_state", b"<!doctype html><title>Log in</title>"),
    Corrupted("base64", "is base64; decode it", base64.encodebytes(GOOD)),
    Corrupted(
        "a browser extension's export",
        "is a bare list of cookies, as browser extensions export them; save it with Playwright's storage_state",
        json.dumps([cookie()]).encode(),
    ),
    Corrupted("SOPS", "is encrypted with SOPS; decrypt it", b'{"cookies": "ENC[x]", "sops": {"version": "3"}}'),
    Corrupted("HAR", "is a HAR recording, not a storage_state", b'{"log": {"version": "1.2", "entries": []}}'),
)
JSON = (
    Corrupted("cut off", "ends in the middle (line 1, column 41); was the upload cut off?", GOOD[:40]),
    Corrupted("cut off within a text", "ends in the middle (line 1, column 15); was the upload cut off?", GOOD[:16]),
    Corrupted("two documents", "has more text after its JSON value (line 2, column 1)", GOOD + b"\n" + GOOD),
    Corrupted(
        "a comma too many",
        "is not JSON: Expecting value (line 1, column 14)",
        b'{"cookies": [,]}',
    ),
    Corrupted(
        "Python's quotes",
        "is not JSON: Expecting property name enclosed in double quotes (line 1, column 2)",
        b"{'cookies': []}",
    ),
    Corrupted(
        "a raw line break in a text",
        "is not JSON: Invalid control character at (line 1, column 15)",
        b'{"cookies": "a\nb"}',
    ),
    Corrupted("NaN", "holds NaN, which JSON does not know", b'{"cookies": [], "extra": NaN}'),
    Corrupted("Infinity", "holds Infinity, which JSON does not know", b'{"cookies": [{"expires": Infinity}]}'),
    Corrupted("an overflowing number", "holds a number that is too large", b'{"cookies": [{"expires": 1e999}]}'),
    Corrupted(
        "endless digits",
        "holds a number with thousands of digits",
        b'{"cookies": [{"expires": ' + b"9" * 5000 + b"}]}",
    ),
    Corrupted("too deep", "is nested too deeply for a storage_state", b"[" * 200_000 + b"]" * 200_000),
    Corrupted(
        "one key twice",
        "has the key 'cookies' twice in one object",
        b'{"cookies": [], "origins": [], "cookies": []}',
    ),
    Corrupted(
        "half a surrogate pair",
        "holds half of a surrogate pair (\\ud800 to \\udfff), which browsers replace",
        state(cookie(value="half-\ud83d-0123456789")),
    ),
)
SHAPE = (
    Corrupted("an empty list", "is a list, not an object with cookies and origins", b"[]"),
    Corrupted("null", "is null, not an object with cookies and origins", b"null"),
    Corrupted("a number", "is a number, not an object with cookies and origins", b"42"),
    Corrupted("a text", "is a text, not an object with cookies and origins", b'"token"'),
    Corrupted(
        "some other object",
        "has neither cookies nor origins: it is not a Playwright storage_state",
        b'{"access_token": "x"}',
    ),
    Corrupted("cookies as an object", "cookies is an object, not a list", b'{"cookies": {}, "origins": []}'),
    Corrupted("origins as a text", "origins is a text, not a list", b'{"cookies": [], "origins": ""}'),
    Corrupted("secrets as a list", "secrets is a list, not an object", b'{"secrets": ["ada"]}'),
    Corrupted("a secret as a number", "secrets.pin is a number, not a text", b'{"secrets": {"pin": 1234}}'),
    Corrupted("an empty secret", "secrets holds an empty text", b'{"secrets": {"user": ""}}'),
    Corrupted(
        "a secret's name that no site file can have",
        "secrets has a name that is not of lower-case letters, digits and _",
        b'{"secrets": {"Pass Word": "x"}}',
    ),
)
COOKIES = (
    Corrupted("a cookie as a text", "cookies[1] is a text, not an object", state(cookie(), "session=1")),
    _with_cookie("no name", "cookies[0] has no name", name=None),
    _with_cookie("a name that is a number", "cookies[0].name is a number, not a text", name=7),
    _with_cookie("no value", "cookies[0] has no value", value=None),
    _with_cookie(
        "a name that ends the header",
        "cookies[0].name holds a control character, ';' or '='",
        name="session=1",
    ),
    _with_cookie(
        "a name with two cookies",
        "cookies[0].name holds a control character, ';' or '='",
        name="session; other",
    ),
    _with_cookie("a name with a tab", "cookies[0].name holds a control character, ';' or '='", name="session\t"),
    _with_cookie(
        "a value with two cookies",
        "cookies[0].value holds a control character or ';'",
        value="0123; other=1",
    ),
    _with_cookie(
        "a space copied with the name",
        "cookies[0].name has a space at the start or end",
        name="session ",
    ),
    _with_cookie("a value that reads as a named cookie", "cookies[0].name is empty", name="", value="session=1"),
    _with_cookie("a path with a line break", "cookies[0].path holds a control character or ';'", path="/\n"),
    _with_cookie(
        "both url and path",
        "cookies[0] has a url beside domain or path; Playwright takes one or the other",
        url="https://chat.example.com/",
        domain=None,
    ),
    _with_cookie("an expiry of null", "cookies[0].expires is null, not a number of seconds", expires=NULL),
    _with_cookie("a partition that is a number", "cookies[0].partitionKey is a number, not a text", partitionKey=1),
    _with_cookie(
        "__Host- without secure",
        "cookies[0] is named __Host-, which needs secure, the path / and a domain without a dot in front",
        name="__Host-session",
        secure=False,
    ),
    _with_cookie(
        "__Host- for one path",
        "cookies[0] is named __Host-, which needs secure, the path / and a domain without a dot in front",
        name="__Host-session",
        path="/chat",
    ),
    _with_cookie(
        "a value that smuggles a header",
        "cookies[0].value holds a control character or ';'",
        value="x\r\nSet-Cookie: y",
    ),
    _with_cookie(
        "a space copied with the value",
        "cookies[0].value has a space at the start or end",
        value=" 0123",
    ),
    _with_cookie("neither name nor value", "cookies[0].name is empty", name="", value=""),
    _with_cookie(
        "larger than a browser keeps",
        "cookies[0] is larger than the 4096 bytes that browsers keep",
        value="x" * 4090,
    ),
    _with_cookie("no domain", "cookies[0] has no domain", domain=None),
    _with_cookie("an address for a domain", "cookies[0].domain is not a host name", domain="https://chat.example.com"),
    _with_cookie("no path", "cookies[0] has no path", path=None),
    _with_cookie("a relative path", "cookies[0].path does not begin with '/'", path="chat"),
    _with_cookie("a path with an attribute", "cookies[0].path holds a control character or ';'", path="/; secure"),
    _with_cookie(
        "an endless path",
        "cookies[0].path is longer than the 1024 bytes that browsers keep",
        path="/" + "a" * 1024,
    ),
    _with_cookie(
        "both url and domain",
        "cookies[0] has a url beside domain or path; Playwright takes one or the other",
        url="https://chat.example.com/",
        path=None,
    ),
    _with_cookie(
        "a url of another kind",
        "cookies[0].url is not an http or https address",
        url="ftp://chat.example.com/",
        domain=None,
        path=None,
    ),
    _with_cookie(
        "half an IPv6 address",
        "cookies[0].url is not an http or https address",
        url="http://[x",
        domain=None,
        path=None,
    ),
    _with_cookie(
        "a url with a port that is none",
        "cookies[0].url is not an http or https address",
        url="https://chat.example.com:99999/",
        domain=None,
        path=None,
    ),
    _with_cookie(
        "a url with a space in its host",
        "cookies[0].url is not an http or https address",
        url="https://chat example.com/",
        domain=None,
        path=None,
    ),
    _with_cookie(
        "a url without a host",
        "cookies[0].url is not an http or https address",
        url="https:///chat",
        domain=None,
        path=None,
    ),
    _with_cookie("an expiry in words", "cookies[0].expires is a text, not a number of seconds", expires="2100-01-01"),
    _with_cookie("an expiry of true", "cookies[0].expires is true or false, not a number of seconds", expires=True),
    _with_cookie(
        "a negative expiry",
        "cookies[0].expires is negative; -1 means until the browser closes",
        expires=-2,
    ),
    _with_cookie(
        "milliseconds",
        "cookies[0].expires is after the year 9999; Unix seconds are needed, not milliseconds",
        expires=1893456000000,
    ),
    _with_cookie("httpOnly in words", "cookies[0].httpOnly is a text, not true or false", httpOnly="yes"),
    _with_cookie("secure as a number", "cookies[0].secure is a number, not true or false", secure=1),
    _with_cookie(
        "an extension's sameSite",
        "cookies[0].sameSite is not one of Strict, Lax, None",
        sameSite="no_restriction",
    ),
    _with_cookie("a sameSite that is a list", "cookies[0].sameSite is a list, not a text", sameSite=[]),
    _with_cookie(
        "a partition that is no site",
        "cookies[0].partitionKey is not an http or https site",
        partitionKey="example",
    ),
    _with_cookie(
        "__Secure- without secure",
        "cookies[0] is named __Secure- but is not secure",
        name="__Secure-session",
        secure=False,
    ),
    _with_cookie(
        "__Host- for a whole domain",
        "cookies[0] is named __Host-, which needs secure, the path / and a domain without a dot in front",
        name="__Host-session",
        domain=".example.com",
    ),
)
ORIGINS = (
    Corrupted("an origin as a text", "origins[0] is a text, not an object", state(cookie(), origins=["x"])),
    _with_origin("an origin without scheme", "origins[0].origin is not an http or https address", origin="a.example"),
    _with_origin("an origin that is a number", "origins[0].origin is a number, not a text", origin=1),
    _with_origin("half an IPv6 origin", "origins[0].origin is not an http or https address", origin="http://[x"),
    _with_origin("no values", "origins[0] has no localStorage", localStorage=None),
    _with_origin(
        "values as an object", "origins[0].localStorage is an object, not a list", localStorage={"theme": "dark"}
    ),
    _with_origin("a value as a text", "origins[0].localStorage[0] is a text, not an object", localStorage=["theme"]),
    _with_origin(
        "a value without name",
        "origins[0].localStorage[0] has no name",
        localStorage=[{"value": "dark"}],
    ),
    _with_origin(
        "a value that is an object",
        "origins[0].localStorage[0].value is an object, not a text",
        localStorage=[{"name": "user", "value": {"id": 1}}],
    ),
    _with_origin(
        "more than a browser stores",
        "origins[0].localStorage is larger than the 5242880 characters browsers keep",
        localStorage=[{"name": "x", "value": "x" * 5 * 1024 * 1024}],
    ),
    _with_origin("databases as an object", "origins[0].indexedDB is an object, not a list", indexedDB={"a": 1}),
    _with_origin("a database as a text", "origins[0].indexedDB[0] is a text, not an object", indexedDB=["a"]),
    _with_origin(
        "a database without name",
        "origins[0].indexedDB[0].name is null, not a text",
        indexedDB=[{**DATABASE, "name": None}],
    ),
    _with_origin(
        "a database of a broken version",
        "origins[0].indexedDB[0].version is a text, not a whole number",
        indexedDB=[{**DATABASE, "version": "1"}],
    ),
    _with_origin(
        "a database without stores",
        "origins[0].indexedDB[0].stores is an object, not a list",
        indexedDB=[{**DATABASE, "stores": {}}],
    ),
    _with_origin(
        "a database with a store as a text",
        "origins[0].indexedDB[0].stores[0] is a text, not an object",
        indexedDB=[{**DATABASE, "stores": ["a"]}],
    ),
)
TABS = (
    _with_tabs("what a tab stores as an object", "sessionStorage is an object, not a list", {"token": "x"}),
    _with_tabs("a tab's items as an object", "sessionStorage[0].items is an object, not a list", [TAB | {"items": {}}]),
    _with_tabs(
        "a tab of no web address",
        "sessionStorage[0].origin is not an http or https address",
        [TAB | {"origin": "about:blank"}],
    ),
    _with_tabs(
        "a tab that stores more than a browser",
        "sessionStorage[0].items is larger than the 5242880 characters browsers keep",
        [TAB | {"items": [{"name": "x", "value": "x" * 5 * 1024 * 1024}]}],
    ),
)
EXPIRED = (
    Corrupted(
        "every cookie expired",
        "has only expired cookies, the last since 2001-09-09 01:46 UTC; log in again and save it",
        state(cookie(expires=5), cookie(name="other", expires=1_000_000_000)),
    ),
)
NAMES = (
    Corrupted("the suffix in capitals", "has a name that does not end in .json, in lower case", GOOD, "BAD.JSON"),
    Corrupted("a name that leads up", "has a name that would lead out of the folder", GOOD, "../b.json"),
    Corrupted("a name in another folder", "has a name that would lead out of the folder", GOOD, "sub/b.json"),
    Corrupted("a name of dots", "has a name that would lead out of the folder", GOOD, "...json"),
    Corrupted(
        "a name that reads as a flag",
        "has a name with other characters than letters, digits, spaces and _ . @ + = ~ , ( ) -",
        GOOD,
        "--help.json",
    ),
    Corrupted("a name that leads out", "has a name that would lead out of the folder", GOOD, "a\\..\\b.json"),
    Corrupted("a name too long", "has a name of more than 128 bytes", GOOD, "a" * 124 + ".json"),
    Corrupted(
        "a name that ends a log line",
        "has a name with other characters than letters, digits, spaces and _ . @ + = ~ , ( ) -",
        GOOD,
        "a\n.json",
    ),
    Corrupted(
        "a name in decomposed Unicode",
        "has a name in decomposed Unicode, which looks like another one; write it in NFC",
        GOOD,
        "Jose\u0301.json",
    ),
)
PLACES = (
    Corrupted("a folder", "is a folder", place=lambda path: path.mkdir()),
    Corrupted("a named pipe", "is not a regular file", place=os.mkfifo),
    Corrupted(
        "a link to nothing",
        "is a link to a file that does not exist",
        place=lambda path: path.symlink_to("gone"),
    ),
    Corrupted(
        "a disk that fails", "cannot be read: Input/output error", GOOD, fault=OSError(errno.EIO, "Input/output error")
    ),
    Corrupted(
        "a file that is not ours to read",
        f"cannot be read by uid {os.geteuid()}: it belongs to uid {os.geteuid()}, mode 640; chown it to {os.geteuid()}",
        place=_file_for_the_group,
        fault=PermissionError(errno.EACCES, "Permission denied"),
    ),
    Corrupted(
        "a link to itself, as Python 3.13 reports it",
        "is a link that leads to itself",
        GOOD,
        fault=OSError(errno.ELOOP, "Too many levels of symbolic links"),
    ),
    Corrupted("a link to itself", "is a link that leads to itself", place=lambda path: path.symlink_to(path)),
    Corrupted("a link that leads out", "is a link that leads out of the folder", place=_link_to_another_folder),
    Corrupted(
        "a huge file without content",
        "is larger than the 16777216 bytes a profile may have",
        place=_sparse_file,
    ),
)
TWICE = (
    Corrupted("a copy", "is the same file as ann.json", GOOD, beside=GOOD),
    Corrupted(
        "a login saved twice",
        "holds the same login as ann.json; one login is used by one browser at a time",
        state(cookie(name="seen", value="now", httpOnly=False), cookie(value="token-of-ann-0123456789")),
        beside=GOOD,
    ),
)
SOUND = (
    Corrupted("a byte order mark", "", b"\xef\xbb\xbf" + GOOD),
    Corrupted("no origins", "", json.dumps({"cookies": [cookie()]}).encode()),
    Corrupted("no cookies", "", json.dumps({"origins": [origin()]}).encode()),
    Corrupted("a login in a tab only", "", json.dumps({"sessionStorage": [TAB]}).encode()),
    Corrupted("a login in a database only", "", state(origins=[origin(localStorage=[], indexedDB=[DATABASE])])),
    Corrupted(
        "expired cookies beside a stored token",
        "",
        state(cookie(expires=5), origins=[origin(localStorage=[{"name": "token", "value": "0123456789abcdef"}])]),
    ),
    Corrupted("one cookie expired, one not", "", state(cookie(expires=5), cookie(name="other"))),
    Corrupted("another login", "", login("bob"), beside=GOOD),
    Corrupted("an emoji as a surrogate pair", "", state(cookie(value="smile-\U0001f600-0123456789"))),
    Corrupted("a name in many letters", "", GOOD, "J\xf6rg (2) \u0939\u093f@example.com.json"),
    _with_cookie("a cookie of the session", "", expires=-1),
    _with_cookie("a cookie without flags", "", expires=None, httpOnly=None, secure=None, sameSite=None),
    _with_cookie("a nameless cookie", "", name=""),
    _with_cookie("a value with = signs", "", value="dG9rZW4tMDEyMzQ1Njc4OQ=="),
    _with_cookie("a cookie by url", "", url="https://chat.example.com/", domain=None, path=None),
    _with_cookie("a Firefox cookie without sameSite", "", sameSite="None", secure=False),
    _with_cookie("a proper __Secure- cookie", "", name="__Secure-session"),
    _with_cookie(
        "a __Secure- cookie by an https url",
        "",
        name="__Secure-session",
        secure=None,
        url="https://chat.example.com/",
        domain=None,
        path=None,
    ),
    _with_cookie("a proper __Host- cookie", "", name="__Host-session"),
    _with_cookie("a proper partition", "", partitionKey="https://example.com"),
    _with_cookie("a cookie of an address", "", domain="[::1]"),
)
"""Odd profiles that are in order: their reason is empty."""

ALL = (*BYTES, *LOOKALIKES, *JSON, *SHAPE, *COOKIES, *ORIGINS, *TABS, *EXPIRED, *NAMES, *PLACES, *TWICE)
