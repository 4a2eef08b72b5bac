"""Reading the fleet file, and giving each profile its login.

All `[[login]]` tables whose name or pattern fits a profile apply, in the order of the file: what a later one says
replaces what an earlier one said of the same key. `proxy` takes its credentials with it, and `site` its models: those
of an earlier table belong to another proxy or site.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlsplit

from contract.files import NotRegular, read_regular
from contract.surroundings import Surroundings, Viewport
from contract.toml_document import Mistake, TomlError, TomlForm, value_at
from contract.toml_lines import Path as KeyPath
from contract.toml_lines import key_lines, line_of
from coordinator.errors import FleetFileError, SiteMissing
from coordinator.fleet_file.login import Login
from coordinator.fleet_file.schema import FleetTable, LoginEntry
from coordinator.site_files import is_path, models_of, names_of, site_name

MAX_BYTES: Final = 1024 * 1024
_MAX_CREDENTIALS_BYTES: Final = 4096
_FORM: Final = TomlForm(FleetTable, secret=frozenset({"proxy"}))
_SELECTS: Final = frozenset({"name", "pattern"})


@dataclass(frozen=True)
class FleetFile:
    """A fleet file without a mistake; all files that it names have been read.

    `aliases` are names by which models may be asked, each with its models in order.
    """

    aliases: Mapping[str, tuple[str, ...]]
    _logins: tuple[_Entry, ...]
    _models: Mapping[str, tuple[str, ...]]
    default_site: str | None
    _shown: str

    def login_of(self, profile: str) -> Login:
        """Return what the file says of a profile; PLAIN where that is nothing.

        Raises FleetFileError where its tables together name a model that its site does not have.
        """
        login, models_from = Login(), None
        for entry in self._logins:
            if entry.fits(profile):
                login = entry.over(login)
                models_from = entry if entry.login.models else (None if entry.login.site else models_from)
        site = login.site or self.default_site
        wrong = self._models.get(site or "") and _not_of(site or "", self._models, login.models or ())
        if models_from is not None and wrong:
            error = TomlError(f"{wrong}, the site of profile {profile!r}", models_from.models_line, models_from.key)
            raise _error(error, self._shown)
        return replace(login, site_name=site_name(site or ""))

    def warnings(self, logins: Mapping[str, Login]) -> tuple[str, ...]:
        """Return what the operator should know, a line each, given the logins of all profiles by their names."""
        lines = [
            f"the fleet file, line {entry.line}: no profile has the name {entry.name!r}"
            for entry in self._logins
            if entry.name is not None and entry.name not in logins
        ]
        served = set[str]()
        for login in logins.values():
            site = login.site or self.default_site
            for model in login.serves(self._models[site]) if site else ():
                served.update(names_of(model, site or ""))
        lines += [
            f"the fleet file: no login serves {model!r}, for which the alias {alias!r} stands"
            for alias, models in self.aliases.items()
            for model in models
            if model not in served
        ]
        return tuple(lines)


@dataclass(frozen=True)
class _Entry:
    """One `[[login]]` table: `login` has defaults where it says nothing; `given` are the keys that it has."""

    name: str | None
    pattern: str | None
    login: Login
    given: frozenset[str]
    line: int
    models_line: int
    key: str

    def fits(self, profile: str) -> bool:
        if self.name is not None:
            return self.name == profile
        return fnmatchcase(profile, self.pattern or "")

    def over(self, earlier: Login) -> Login:
        """Return an earlier table's login with what this one says in its place."""
        if "site" in self.given:
            earlier = replace(earlier, site=self.login.site, models=None)
        if "models" in self.given:
            earlier = replace(earlier, models=self.login.models)
        if "weight" in self.given:
            earlier = replace(earlier, weight=self.login.weight)
        given = {key: value for key, value in self.login.surroundings if key in self.given}
        return replace(earlier, surroundings=earlier.surroundings.model_copy(update=given))


@dataclass(frozen=True)
class FleetFileReader:
    """Reads the fleet file again and again. `default_site` is CHAT_SITE."""

    default_site: str | None

    def read(self, path: Path, *, shown: str | None = None, folder: Path | None = None) -> FleetFile:
        """Return the file at a path, with all that it names checked. Raises FleetFileError.

        `shown` is what messages call it. Paths in it are relative to `folder`; without one they must be absolute.
        """
        shown = shown or str(path)
        try:
            text = _read_text(path)
            data = _FORM.read(text)
            return _Reading(text, data, _FORM.parse(data, text), folder, self.default_site).result(shown)
        except SiteMissing as error:
            raise FleetFileError(f"CHAT_SITE={self.default_site}: {error}.") from None
        except TomlError as error:
            raise _error(error, shown) from None
        except RecursionError:
            raise FleetFileError(f"fleet file {shown}: not valid TOML: it is nested too deep.") from None


class _Reading:
    """One file on its way from its tables to logins."""

    def __init__(
        self, text: str, data: Mapping[str, Any], table: FleetTable, folder: Path | None, default_site: str | None
    ) -> None:
        self._text, self._data, self._table, self._folder = text, data, table, folder
        self._lines = key_lines(text)
        self._default_site = default_site
        self._models = {default_site: models_of(default_site)} if default_site else {}

    def result(self, shown: str) -> FleetFile:
        """Return the whole file. Raises TomlError."""
        logins = tuple(self._entry(index, entry) for index, entry in enumerate(self._table.login))
        self._check_aliases()
        return FleetFile(self._table.alias, logins, self._models, self._default_site, shown)

    def _wrong(self, path: KeyPath, message: str) -> NoReturn:
        raise _FORM.error([Mistake(path, "rule", message, value_at(self._data, path))], self._text)

    def _entry(self, index: int, entry: LoginEntry) -> _Entry:
        at: KeyPath = ("login", index)
        given = frozenset(entry.model_fields_set)
        if entry.name is not None and entry.pattern is not None:
            self._wrong((*at, "pattern"), "and name are not both needed: one of them says which profiles are meant")
        if entry.name is None and entry.pattern is None:
            self._wrong(at, "needs name or pattern, which say which profiles are meant")
        if entry.name is not None:
            if entry.name.endswith(".json"):
                self._wrong((*at, "name"), f"is a file's name: write {entry.name.removesuffix('.json')!r}")
            if entry.name in [earlier.name for earlier in self._table.login[:index]]:
                self._wrong((*at, "name"), "has a [[login]] table already: write all into one")
        if not given - _SELECTS:
            self._wrong(at, "says nothing of these logins: add a key such as site, or take the table out")
        site = self._site((*at, "site"), entry.site) if entry.site else None
        # Without a site of its own the table applies to logins of several, perhaps: see `FleetFile.login_of`.
        if entry.models and site and (wrong := _not_of(site, self._models, entry.models)):
            self._wrong((*at, "models"), wrong)
        proxy = self._proxy(at, entry)
        size = entry.viewport
        surroundings = Surroundings(
            proxy=proxy,
            locale=entry.locale,
            timezone=entry.timezone,
            viewport=Viewport(width=size.width, height=size.height) if size else None,
            user_agent=entry.user_agent,
        )
        weight = 1 if entry.weight is None else entry.weight
        line, models_line = line_of(self._lines, at), line_of(self._lines, (*at, "models"))
        login = Login(site, surroundings, entry.models, weight)
        return _Entry(entry.name, entry.pattern, login, given, line, models_line, f"login[{index}].models")

    def _site(self, at: KeyPath, site: str) -> str:
        if is_path(site):
            site = str(self._path(at, site))
        if site not in self._models:
            try:
                self._models[site] = models_of(site)
            except SiteMissing as error:
                self._wrong(at, str(error))
            if [site_name(known) for known in self._models].count(site_name(site)) > 1:
                self._wrong(at, "is called as another site here: SITE/MODEL would mean both; rename the file")
        return site

    def _path(self, at: KeyPath, text: str) -> Path:
        if self._folder is None and not Path(text).is_absolute():
            self._wrong(at, "is relative, and this file lies in a bucket: write an absolute path")
        return (self._folder or Path("/")) / text

    def _proxy(self, at: KeyPath, entry: LoginEntry) -> str | None:
        if entry.proxy_credentials_file is None:
            return entry.proxy
        at = (*at, "proxy_credentials_file")
        if entry.proxy is None:
            self._wrong(at, "goes with proxy in the same table")
        try:
            user, password = _credentials(self._path(at, entry.proxy_credentials_file))
        except ValueError as error:
            self._wrong(at, str(error))
        scheme, address = urlsplit(entry.proxy).scheme, urlsplit(entry.proxy).netloc
        return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{address}"

    def _check_aliases(self) -> None:
        models = {model for named in self._models.values() for model in named}
        known = {name for site, named in self._models.items() for model in named for name in names_of(model, site)}
        for alias, targets in self._table.alias.items():
            for index, target in enumerate(targets):
                if target in known:
                    continue
                at: KeyPath = ("alias", alias, index)
                if target in self._table.alias:
                    self._wrong(at, "is an alias itself: write the models that it stands for")
                self._wrong(at, f"is no model of the sites here, which have: {', '.join(sorted(models)) or 'none'}")


def _error(error: TomlError, shown: str) -> FleetFileError:
    return FleetFileError(f"{error.told(f'fleet file {shown}')}.", error.line, error.key)


def _read_text(path: Path) -> str:
    """Return a file's text, without the byte order mark that editors on Windows write. Raises TomlError."""
    try:
        data, _ = _read(path, MAX_BYTES)
    except ValueError as error:
        raise TomlError(str(error)) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TomlError("is not UTF-8 text", data.count(b"\n", 0, error.start) + 1) from None
    return text.replace("\r\n", "\n")


def _credentials(path: Path) -> tuple[str, str]:
    """Return user name and password. Raises ValueError, which shows nothing of the content."""
    data, mode = _read(path, _MAX_CREDENTIALS_BYTES)
    # A volume of Kubernetes with fsGroup is readable by the group.
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise ValueError(f"has mode {stat.S_IMODE(mode):04o}, so that others may read or change it: chmod 600")
    try:
        user, colon, password = data.decode("utf-8-sig").rstrip("\r\n").partition(":")
    except UnicodeDecodeError:
        raise ValueError("does not hold UTF-8 text") from None
    if not (colon and user) or not (user + password).isprintable():
        raise ValueError("does not hold one line USER:PASSWORD")
    return user, password


def _read(path: Path, max_bytes: int) -> tuple[bytes, int]:
    """Return a regular file's bytes and its mode. Raises ValueError."""
    try:
        data, mode = read_regular(path, max_bytes)
    except NotRegular as error:
        raise ValueError(str(error)) from None
    except OSError as error:
        raise ValueError(f"cannot be read by uid {os.geteuid()}: {error.strerror}") from None
    if len(data) > max_bytes:
        raise ValueError(f"is larger than {max_bytes // 1024} KiB")
    return data, mode


def _not_of(site: str, known: Mapping[str, tuple[str, ...]], models: Iterable[str]) -> str | None:
    """Return what is wrong with models of which a site does not have all."""
    wrong = next((model for model in models if model not in known[site]), None)
    return wrong and f"names {wrong!r}, but the models of {site_name(site)} are: {', '.join(known[site]) or 'none'}"
