"""What a fleet file makes of each profile, and what is said of names that nothing has."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.proxies import parse_proxy
from contract.surroundings import Surroundings, Viewport
from coordinator.errors import FleetFileError
from coordinator.fleet_file.load import FleetFile, FleetFileReader
from coordinator.fleet_file.login import PLAIN, Login
from coordinator.profiles.assignment import assign_logins
from coordinator.profiles.model import Discovery, Profile

ROOT = Path(__file__).resolve().parents[3]
SITE = "models = [{ name = 'own-model' }]\n"


def read(folder: Path, text: str, *, default_site: str | None = "demo") -> FleetFile:
    (folder / "fleet.toml").write_text(text)
    (folder / "own.toml").write_text(SITE)
    return FleetFileReader(default_site).read(folder / "fleet.toml", folder=folder)


def discovered(*names: str) -> Discovery:
    return Discovery(tuple(Profile(name, Path(f"{name}.json"), "0", name, None) for name in names), ())


def test_a_file_that_says_nothing_changes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "", default_site=None).login_of("ada") == PLAIN
    assert read(tmp_path, "").login_of("ada") == Login(site_name="demo")


def test_every_key_reaches_the_login(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("us:er:p@ss/wörd\n")
    (tmp_path / "secret").chmod(0o600)
    login = read(
        tmp_path,
        """\
[[login]]
name = "ada"
site = "./own.toml"
proxy = "http://proxy.example:3128"
proxy_credentials_file = "secret"
locale = "de-CH"
timezone = "Europe/Zurich"
viewport = { width = 900, height = 600 }
user_agent = "Mozilla/5.0 (mine)"
models = ["own-model"]
weight = 2
""",
    ).login_of("ada")
    own = Surroundings(
        proxy=login.surroundings.proxy,
        locale="de-CH",
        timezone="Europe/Zurich",
        viewport=Viewport(width=900, height=600),
        user_agent="Mozilla/5.0 (mine)",
    )
    assert login == Login(str(tmp_path / "own.toml"), own, ("own-model",), 2, "own")
    # As every program reads an address: what means something in it is encoded.
    proxy = parse_proxy(login.surroundings.proxy or "")
    assert (proxy.server, proxy.username, proxy.password) == ("http://proxy.example:3128", "us", "er:p@ss/wörd")
    assert "p@ss" not in repr(login)
    assert "p%40ss" not in repr(login)


def test_all_that_fit_apply_and_the_later_one_wins(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        """\
[[login]]
pattern = "*"
locale = "de-DE"
weight = 2
[[login]]
pattern = "g[ru]*"
locale = "en-GB"
timezone = "Europe/London"
[[login]]
name = "grace"
weight = 3
""",
    )
    seen = {
        name: (
            file.login_of(name).surroundings.locale,
            file.login_of(name).surroundings.timezone,
            file.login_of(name).weight,
        )
        for name in ("ada", "guest", "grace")
    }
    assert seen == {
        "ada": ("de-DE", None, 2.0),
        "guest": ("en-GB", "Europe/London", 2.0),
        "grace": ("en-GB", "Europe/London", 3.0),
    }


def test_what_belongs_together_is_replaced_together(tmp_path: Path) -> None:
    """One proxy's password is not sent to another, nor one site asked for another's models."""
    (tmp_path / "secret").write_text("user:password")
    (tmp_path / "secret").chmod(0o600)
    file = read(
        tmp_path,
        """\
[[login]]
pattern = "*"
site = "demo"
models = ["demo-small"]
proxy = "http://one.example:3128"
proxy_credentials_file = "secret"
[[login]]
name = "ada"
proxy = "socks5://two.example:1080"
site = "./own.toml"
""",
    )
    ada, other = file.login_of("ada"), file.login_of("other")
    assert (ada.surroundings.proxy, ada.models) == ("socks5://two.example:1080", None)
    assert (other.surroundings.proxy, other.models) == ("http://user:password@one.example:3128", ("demo-small",))


def test_models_are_held_against_the_site_that_a_login_ends_up_with(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        """\
[[login]]
name = "ada"
site = "./own.toml"
[[login]]
pattern = "*"
models = ["demo-small"]
""",
    )
    assert file.login_of("grace").models == ("demo-small",)
    with pytest.raises(FleetFileError) as caught:
        file.login_of("ada")
    assert ", line 6: login[1].models: names 'demo-small', but the models of own are: own-model, the site of" in str(
        caught.value
    )


def test_a_profile_without_a_site_is_left_out(tmp_path: Path) -> None:
    file = read(tmp_path, "[[login]]\nname = 'ada'\nsite = 'demo'\n", default_site=None)
    discovery, _ = assign_logins(file, discovered("ada", "grace"))
    assert [(profile.name, profile.login.site) for profile in discovery.accepted] == [("ada", "demo")]
    assert [item.name for item in discovery.rejected] == ["grace.json"]
    assert "no [[login]] of the fleet file gives it one" in discovery.rejected[0].reason


def test_names_and_models_that_nothing_has_are_warned_of(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        """\
[[login]]
name = "ada"
models = ["demo-small"]

[[login]]
name = "grcae"
site = "./own.toml"
[[login]]
pattern = "x-*"
weight = 2
[alias]
fast = ["demo-large", "demo/demo-small", "own-model"]
""",
    )
    _, warnings = assign_logins(file, discovered("ada"))
    assert warnings == (
        "the fleet file, line 5: no profile has the name 'grcae'",
        "the fleet file: no login serves 'demo-large', for which the alias 'fast' stands",
        "the fleet file: no login serves 'own-model', for which the alias 'fast' stands",
    )


@pytest.mark.parametrize("locale", ["de", "de-DE", "zh-Hant-TW", "es-419", "sl-rozaj-biske-1994", "sr-Latn"])
def test_locales(tmp_path: Path, locale: str) -> None:
    file = read(tmp_path, f"[[login]]\nname = 'ada'\nlocale = '{locale}'\n")
    assert file.login_of("ada").surroundings.locale == locale


@pytest.mark.parametrize(
    "timezone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Argentina/Ushuaia", "Etc/GMT+12"]
)
def test_timezones(tmp_path: Path, timezone: str) -> None:
    file = read(tmp_path, f"[[login]]\nname = 'ada'\ntimezone = '{timezone}'\n")
    assert file.login_of("ada").surroundings.timezone == timezone


@pytest.mark.parametrize(
    "proxy", ["http://h:1", "https://proxy.example:3128/", "socks5://[::1]:1080", "http://10.0.0.1:80"]
)
def test_proxies(tmp_path: Path, proxy: str) -> None:
    file = read(tmp_path, f"[[login]]\nname = 'ada'\nproxy = '{proxy}'\n")
    assert file.login_of("ada").surroundings.proxy == proxy.rstrip("/")


def test_a_file_as_editors_on_windows_save_it(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_bytes(b"\xef\xbb\xbf[[login]]\r\nname = 'ada'\r\nweight = 3\r\n")
    assert FleetFileReader("demo").read(tmp_path / "fleet.toml").login_of("ada").weight == 3


def test_the_example(tmp_path: Path) -> None:
    """The file that the guide shows can be used as it is; its credentials are the operator's."""
    text = (ROOT / "deploy/fleet.example.toml").read_text()
    (tmp_path / "proxy-credentials").write_text("user:password\n")
    (tmp_path / "proxy-credentials").chmod(0o600)
    (tmp_path / "fleet.toml").write_text(text)
    file = FleetFileReader(None).read(tmp_path / "fleet.toml", folder=tmp_path)
    names = ("team-a", "team-b", "support")
    discovery, warnings = assign_logins(file, discovered(*names))
    assert [profile.name for profile in discovery.accepted] == list(names)
    assert warnings == ()
    assert {profile.login.site_name for profile in discovery.accepted} == {"demo", "gradio"}
    assert file.aliases
