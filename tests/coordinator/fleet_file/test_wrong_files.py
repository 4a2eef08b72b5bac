"""Fleet files that cannot be used: each is refused with its line, its key, what is expected there, and no password."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.errors import FleetFileError
from coordinator.fleet_file.load import MAX_BYTES, FleetFileReader

SECRET = "pass!w0rd$of-a-proxy"
LOGIN = "[[login]]\nname = 'ada'\n"

# The file's text, then the line and the key of the error, and what it must say.
WRONG: list[tuple[str, int, str, str]] = [
    # no TOML
    ("[[login]\nname = 'ada'\n", 1, "", "not valid TOML"),
    ("[[login]]\nname = ada\n", 2, "name", "not valid TOML"),
    ("[[login]]\nname = 'ada\n", 2, "name", "not valid TOML"),
    (f"{LOGIN}name = 'grace'\n", 3, "name", "not valid TOML"),
    (f"{LOGIN}viewport = {{ width = 900,\nheight = 600\n", 3, "viewport", "not valid TOML"),
    ("[alias]\nfast = ['demo-small'\n", 2, "", "not valid TOML"),
    (f"{LOGIN}weight = {'9' * 5000}\n", 1, "", "not valid TOML"),
    # unknown keys and tables
    ("[[logins]]\nname = 'ada'\n", 1, "logins", "unknown key; did you mean login?; expected one of: login, alias"),
    ("[aliases]\nfast = ['demo-small']\n", 1, "aliases", "did you mean alias?"),
    ("name = 'ada'\n", 1, "name", "name goes to [login]"),
    (f"{LOGIN}sites = 'demo'\n", 3, "login[0].sites", "did you mean site?"),
    (f"{LOGIN}password = '{SECRET}'\n", 3, "login[0].password", "unknown key; expected one of: name, pattern, site"),
    (f"{LOGIN}viewport = {{ width = 900, hight = 600 }}\n", 3, "login[0].viewport.hight", "did you mean height?"),
    # the wrong kind
    ("login = 'ada'\n", 1, "login", "should be a list; expected: [[login]] tables"),
    ("[login]\nname = 'ada'\nsite = 'demo'\n", 1, "login", "should be a list; expected: [[login]] tables"),
    ("login = ['ada']\n", 1, "login[0]", "[[login]] tables, in the order in which they apply; found 'ada'"),
    (f"{LOGIN}site = true\n", 3, "login[0].site", "should be text; expected: a name in sites/"),
    (f"{LOGIN}weight = '2'\n", 3, "login[0].weight", "should be a whole number; expected: the share of requests"),
    (
        f"{LOGIN}models = 'demo-small'\n",
        3,
        "login[0].models",
        "should be a list; expected: a list of the site's models",
    ),
    (f"{LOGIN}locale = 2026-01-01\n", 3, "login[0].locale", "put text into quotes"),
    (f"{LOGIN}viewport = [900, 600]\n", 3, "login[0].viewport", "expected: { width = PIXELS, height = PIXELS }"),
    (f"{LOGIN}viewport.width = 900\n", 3, "login[0].viewport.height", "is missing; expected: CSS pixels, 200 to 8192"),
    (f"{LOGIN}viewport = {{ width = 900, height = '600' }}\n", 3, "login[0].viewport.height", "a whole number"),
    (
        f"{LOGIN}viewport = {{ width = 90, height = 600 }}\n",
        3,
        "login[0].viewport.width",
        "greater than or equal to 200",
    ),
    (f"{LOGIN}viewport = {{ width = 900, height = 9000 }}\n", 3, "login[0].viewport.height", "8192; found 9000"),
    # which profiles are meant
    ("[[login]]\nsite = 'demo'\n", 1, "login[0]", "needs name or pattern"),
    (f"{LOGIN}pattern = 'a*'\nsite = 'demo'\n", 3, "login[0].pattern", "one of them says which profiles are meant"),
    ("[[login]]\nname = 'ada.json'\nsite = 'demo'\n", 2, "login[0].name", "is a file's name: write 'ada'"),
    (
        "[[login]]\nname = ''\nsite = 'demo'\n",
        2,
        "login[0].name",
        "must be one line, without white space around it; expected: the name",
    ),
    ("[[login]]\npattern = ' a*'\nsite = 'demo'\n", 2, "login[0].pattern", "without white space around it"),
    (f"{LOGIN}site = 'demo'\n{LOGIN}weight = 2\n", 5, "login[1].name", "has a [[login]] table already"),
    (LOGIN, 1, "login[0]", "says nothing of these logins"),
    ("[[login]]\npattern = '*'\n", 1, "login[0]", "says nothing of these logins"),
    # sites
    (f"{LOGIN}site = 'dmeo'\n", 3, "login[0].site", "there is no such site file; known are chainlit, demo, gradio"),
    (f"{LOGIN}site = 'mine.toml'\n", 3, "login[0].site", "there is no such site file"),
    (f"{LOGIN}site = './broken.toml'\n", 3, "login[0].site", "the file is not valid TOML"),
    (f"{LOGIN}site = '.'\n", 3, "login[0].site", "there is no such site file"),
    (f"{LOGIN}site = './'\n", 3, "login[0].site", "the file cannot be read"),
    (f"{LOGIN}site = './demo.toml'\n", 3, "login[0].site", "is called as another site here"),
    # proxies
    *(
        (
            f"{LOGIN}proxy = '{proxy}'\n",
            3,
            "login[0].proxy",
            f"{says}; expected: http://HOST:PORT, https://HOST:PORT or",
        )
        for proxy, says in (
            ("proxy.example", "is no address of a proxy"),
            ("proxy.example:3128", "is no address of a proxy"),
            ("ftp://proxy.example:21", "is no address of a proxy"),
            ("socks4://proxy.example:1080", "is no address of a proxy"),
            ("http://proxy.example", "needs a port"),
            ("http://:3128", "is no address of a proxy"),
            ("http://proxy.example:99999", "is no address of a proxy"),
            ("http://proxy.example:3128/path", "is no address of a proxy"),
            ("", "is no address of a proxy"),
            (f"http://user:{SECRET}@proxy.example:3128", "name that in proxy_credentials_file"),
            (f"socks5://{SECRET}@proxy.example:1080", "name that in proxy_credentials_file"),
            (f"user:{SECRET}@proxy.example:3128", "name that in proxy_credentials_file"),
            (f"http://user:{SECRET}/@proxy.example:3128", "is no address of a proxy"),
            (f"http://[user:{SECRET}@proxy.example:3128", "name that in proxy_credentials_file"),
        )
    ),
    (
        f"{LOGIN}proxy_credentials_file = './good'\n",
        3,
        "login[0].proxy_credentials_file",
        "goes with proxy in the same",
    ),
    *(
        (
            f"{LOGIN}proxy = 'http://proxy.example:3128'\nproxy_credentials_file = '{file}'\n",
            4,
            "login[0].proxy_credentials_file",
            f"{says}; expected: the path of a file with one line USER:PASSWORD",
        )
        for file, says in (
            ("./absent", "No such file or directory"),
            (".", "Is a directory"),
            ("./pipe", "is not a regular file"),
            ("./open", "has mode 0644, so that others may read or change it: chmod 600"),
            ("./group", "has mode 0660, so that others may read or change it: chmod 600"),
            ("./two-lines", "does not hold one line USER:PASSWORD"),
            ("./no-colon", "does not hold one line USER:PASSWORD"),
            ("./no-user", "does not hold one line USER:PASSWORD"),
            ("./latin", "does not hold UTF-8 text"),
            ("./large", "is larger than 4 KiB"),
        )
    ),
    # locale, time zone, user agent
    (f"{LOGIN}locale = 'de_DE'\n", 3, "login[0].locale", "is no BCP 47 tag: write de-DE; expected: a language tag"),
    (f"{LOGIN}locale = 'german'\n", 3, "login[0].locale", "is no BCP 47 tag"),
    (f"{LOGIN}locale = 'de-DE-u-co-phonebk'\n", 3, "login[0].locale", "without extensions"),
    (f"{LOGIN}locale = 'de-1996-1996'\n", 3, "login[0].locale", "is no BCP 47 tag"),
    (f"{LOGIN}timezone = 'Berlin'\n", 3, "login[0].timezone", "is no time zone; expected: a name of the IANA database"),
    (f"{LOGIN}timezone = 'europe/berlin'\n", 3, "login[0].timezone", "is no time zone"),
    (f"{LOGIN}timezone = '+01:00'\n", 3, "login[0].timezone", "is no time zone"),
    (f"{LOGIN}timezone = 'Asia/Calcutta'\n", 3, "login[0].timezone", "is an old name, which Firefox refuses"),
    (
        f"{LOGIN}user_agent = 'Mozilla\\n'\n".replace("'Mozilla\\n'", '"Mozilla\\nX: y"'),
        3,
        "login[0].user_agent",
        "one line",
    ),
    (f"{LOGIN}user_agent = 'Möbel/1.0'\n", 3, "login[0].user_agent", "must be printable ASCII"),
    (f"{LOGIN}user_agent = '{'x' * 501}'\n", 3, "login[0].user_agent", "at most 500 characters"),
    # models and weight
    (f"{LOGIN}site = 'demo'\nmodels = []\n", 4, "login[0].models", "at least 1 item"),
    (
        f"{LOGIN}site = 'demo'\nmodels = ['demo-small', 'demo-small']\n",
        4,
        "login[0].models",
        "names 'demo-small' twice",
    ),
    (
        f"{LOGIN}site = 'demo'\nmodels = ['gpt-5']\n",
        4,
        "login[0].models",
        "names 'gpt-5', but the models of demo are: demo",
    ),
    (f"{LOGIN}models = [1]\n", 3, "login[0].models[0]", "should be text; expected: a list of the site's models"),
    (f"{LOGIN}weight = 0\n", 3, "login[0].weight", "greater than or equal to 1"),
    (f"{LOGIN}weight = 1.5\n", 3, "login[0].weight", "a whole number"),
    (f"{LOGIN}weight = 1000\n", 3, "login[0].weight", "less than or equal to 100"),
    (f"{LOGIN}weight = nan\n", 3, "login[0].weight", "a whole number"),
    (f"{LOGIN}weight = true\n", 3, "login[0].weight", "should be a whole number"),
    # aliases
    ("alias = ['fast']\n", 1, "alias", "should be a table; expected: a name and the list of models"),
    ("[alias]\nfast = 'demo-small'\n", 2, "alias.fast", "should be a list; expected: a name and the list of models"),
    ("[alias]\nfast = []\n", 2, "alias.fast", "at least 1 item"),
    ("[alias]\nfast = ['demo-small', 'demo-small']\n", 2, "alias.fast", "names 'demo-small' twice"),
    (
        "[alias]\n\nfast = ['demo-small',\n'gpt-5']\n",
        4,
        "alias.fast[1]",
        "is no model of the sites here, which have: demo",
    ),
    ("[alias]\na = ['b']\nb = ['demo-small']\n", 2, "alias.a[0]", "is an alias itself: write the models"),
    ("[alias]\n' fast' = ['demo-small']\n", 2, 'alias." fast"', "without white space around it"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what the files of the table name."""
    (tmp_path / "demo.toml").write_text("models = [{ name = 'm' }]\n")
    (tmp_path / "broken.toml").write_text("name = \n")
    credentials = {
        "good": (f"user:{SECRET}\n".encode(), 0o600),
        "open": (f"user:{SECRET}\n".encode(), 0o644),
        "group": (f"user:{SECRET}\n".encode(), 0o660),
        "two-lines": (f"user:{SECRET}\nuser:{SECRET}\n".encode(), 0o600),
        "no-colon": (SECRET.encode(), 0o600),
        "no-user": (f":{SECRET}".encode(), 0o600),
        "latin": (f"user:{SECRET}é".encode("latin-1"), 0o600),
        "large": (SECRET.encode() * 1000, 0o600),
    }
    for name, (content, mode) in credentials.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def refusal(folder: Path, content: bytes) -> FleetFileError:
    path = folder / "fleet.toml"
    path.write_bytes(content)
    with pytest.raises(FleetFileError) as caught:
        FleetFileReader("demo").read(path, folder=folder)
    return caught.value


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_each_is_named_by_file_line_key_and_what_is_expected(folder: Path, number: int) -> None:
    text, line, key, says = WRONG[number]
    error = refusal(folder, text.encode())
    # A number of thousands of digits is refused without a place.
    place = f", line {line}" if "9" * 5000 not in text else ""
    begin = f"fleet file {folder}/fleet.toml{place}: {f'{key}: ' if key else ''}"
    assert str(error).startswith(begin), error
    assert says in str(error), error
    assert "\n" not in str(error)
    assert SECRET not in str(error)
    assert str(folder) not in error.public
    assert SECRET not in error.public


def test_there_are_enough_of_them() -> None:
    assert len(WRONG) >= 60


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[[login]]\nname = 'ad\xe9'\n", "fleet.toml, line 2: is not UTF-8 text."),
        (b"#" * (MAX_BYTES + 1), "fleet.toml: is larger than 1024 KiB."),
        (b"x = " + b"[" * 100_000, "fleet.toml: not valid TOML: it is nested too deep."),
    ],
    ids=["latin-1", "large", "deep"],
)
def test_what_is_no_text_of_a_sensible_kind(folder: Path, content: bytes, says: str) -> None:
    assert str(refusal(folder, content)).endswith(says)


def test_a_file_that_is_not_there_or_none(tmp_path: Path) -> None:
    reader = FleetFileReader("demo")
    with pytest.raises(FleetFileError, match=r"fleet\.toml: cannot be read by uid \d+: No such file or directory\."):
        reader.read(tmp_path / "fleet.toml")
    (tmp_path / "fleet.toml").mkdir()
    with pytest.raises(FleetFileError, match=r"fleet\.toml: cannot be read by uid \d+: Is a directory\."):
        reader.read(tmp_path / "fleet.toml")


@pytest.mark.parametrize("key", ["site", "proxy_credentials_file"])
def test_a_file_in_a_bucket_has_no_folder(tmp_path: Path, key: str) -> None:
    (tmp_path / "fleet.toml").write_text(f"{LOGIN}proxy = 'http://proxy.example:3128'\n{key} = './x.toml'\n")
    with pytest.raises(FleetFileError) as caught:
        FleetFileReader("demo").read(tmp_path / "fleet.toml", shown="s3://b/fleet.toml")
    assert str(caught.value).startswith(f"fleet file s3://b/fleet.toml, line 4: login[0].{key}: is relative, and")


def test_the_default_site_is_named_by_its_variable(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(f"{LOGIN}weight = 2\n")
    with pytest.raises(FleetFileError, match=r"^CHAT_SITE=gone: there is no such site file"):
        FleetFileReader("gone").read(tmp_path / "fleet.toml")


GOOD = f"""\
[[login]]
pattern = "a*"
site = "demo"
proxy = "http://user:{SECRET}@proxy.example:3128"
locale = "de-DE"
viewport = {{ width = 900, height = 600 }}
models = ["demo-small"]
[alias]
fast = ["demo-small", "demo-large"]
""".encode()
PIECES = st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"\n", b"=", b"[", b"]]", b"'''", b"#", b"\\u", b"."]))
CHANGES = st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), PIECES), max_size=4)


def said(path: Path, content: bytes) -> str | None:
    """What is said of a file to whoever may see it; None if it is taken."""
    path.write_bytes(content)
    try:
        FleetFileReader("demo").read(path, folder=path.parent).login_of("ada")
    except FleetFileError as error:
        return f"{error} {error.public}"
    return None


@given(changes=CHANGES)
def test_no_damage_shows_a_password(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, bytes]]
) -> None:
    """A file with a password where none may be, and then some damage: it is refused in one line, or taken."""
    content = GOOD
    for at, length, piece in changes:
        content = content[:at] + piece + content[at + length :]
    message = said(tmp_path_factory.getbasetemp() / "damaged.toml", content)
    if message is not None:
        assert re.match(r"fleet file \S+damaged\.toml(, line \d+)?: .+\. the fleet file is wrong.*\.$", message)
        assert SECRET not in message


@given(content=st.binary(max_size=200))
def test_no_bytes_crash_it(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    message = said(tmp_path_factory.getbasetemp() / "any.toml", content)
    assert message is None or message.startswith("fleet file ")
