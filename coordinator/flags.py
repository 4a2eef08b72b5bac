"""Reading the settings from flags and environment, and their table: errors, ``--help``, Markdown."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, NoReturn

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from coordinator.errors import SettingsError
from coordinator.settings import About, Settings, Takes

_PRECEDENCE: Final = (
    "A flag wins over the environment variable, which wins over the default; an empty variable is not set."
)
_AWS_CHAIN: Final = "AWS credentials and the endpoint come from the usual AWS chain (AWS_ENDPOINT_URL_S3 included)."
_BARE_URL: Final = re.compile(r"(?<!`)\bhttps?://[\w.:]*\w")  # Markdown would make a link of it


@dataclass(frozen=True)
class Option:
    """One row of the table of settings."""

    field: str
    variable: str
    flag: str | None
    group: str
    meaning: str
    default: str
    takes: Takes
    secret: bool

    @classmethod
    def of(cls, name: str, info: FieldInfo) -> Option:
        """Return the row of a field of `Settings`."""
        about = next(item for item in info.metadata if isinstance(item, About))
        takes = next(item for item in _metadata(info) if isinstance(item, Takes))
        flag = f"--{name.replace('_', '-')}" if about.flag == "" else about.flag
        default = about.default_text or _default_text(info.default)
        return cls(name, name.upper(), flag, about.group, about.meaning, default, takes, about.secret)

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no value, and has a form that begins with --no-."""
        return self.takes.placeholder == "BOOL"


def _metadata(info: FieldInfo) -> Iterator[object]:
    """Yield the field's metadata and that of the members of a union (``Annotated[...] | None``)."""
    yield from info.metadata
    for member in getattr(info.annotation, "__args__", ()):
        yield from getattr(member, "__metadata__", ())


def _default_text(default: object) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) or "empty"


def table() -> tuple[Option, ...]:
    """Return all settings, in the order of the class, groups together."""
    options = [Option.of(name, info) for name, info in Settings.model_fields.items()]
    order = list(dict.fromkeys(option.group for option in options))
    return tuple(sorted(options, key=lambda option: order.index(option.group)))


def load_settings(argv: Sequence[str] = ()) -> Settings:
    """Read flags and environment. Raises SettingsError with a line for each wrong one.

    ``--help`` prints and leaves by SystemExit(0).
    """
    parser = _parser()
    namespace, unknown = parser.parse_known_args(argv)
    if unknown:
        # Without its value, which may be a secret.
        argument = unknown[0].partition("=")[0]
        if not argument.startswith("-"):
            raise SettingsError("takes flags only, got an argument without one; --help lists the flags")
        known = [flag for action in parser._actions for flag in action.option_strings]  # noqa: SLF001 - argparse has no public list
        near = difflib.get_close_matches(argument, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise SettingsError(f"unknown flag {argument}; {hint}--help lists the flags")
    flags = {name: value for name, value in vars(namespace).items() if value is not None}
    try:
        return Settings(**flags)
    except ValidationError as error:
        lines = dict.fromkeys(_explain_wrong(detail, flags) for detail in error.errors(include_url=False))
        raise SettingsError("\n".join(lines)) from None


def cell_fields(settings: Settings) -> dict[str, str]:
    """Return what every log line says of the coordinator: its name among several, if it has one."""
    cell = settings.own_cell
    return {} if cell is None else {"cell": cell}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; --help lists the flags")


def _parser() -> _Parser:
    options = table()
    by_environment = [
        f"  {option.variable}\n      {option.meaning} [default: {option.default}]"
        for option in options
        if option.flag is None
    ]
    parser = _Parser(
        usage="python -m coordinator.main [--FLAG VALUE ...]",
        description=f"Serve one OpenAI-compatible API in front of a fleet of logged-in browsers.\n{_PRECEDENCE}",
        epilog="\n".join(["by environment only:", *by_environment, "", _AWS_CHAIN]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for group, members in groupby(options, key=lambda option: option.group):
        section = parser.add_argument_group(group)
        for option in members:
            if option.flag is None:
                continue
            # argparse takes a percent sign for the start of a format.
            text = f"{option.meaning} [{option.variable}, default: {option.default}]".replace("%", "%%")
            how: dict[str, Any] = (
                {"action": argparse.BooleanOptionalAction}
                if option.is_switch
                else {"metavar": option.takes.placeholder}
            )
            section.add_argument(option.flag, dest=option.field, help=text, **how)
    return parser


def _explain_wrong(detail: ErrorDetails, flags: Mapping[str, Any]) -> str:
    """Return the line for a value that cannot be used: where it stands, what it is, and what is taken there."""
    options = {option.field: option for option in table()}
    name = str(detail["loc"][0]).lower() if detail["loc"] else ""
    option = options.get("auth_profile_s3_region" if name == "aws_region" else name)
    if option is None:
        return detail["msg"].removeprefix("Value error, ")
    got = "a value that is not shown" if option.secret else repr(str(detail["input"])[:200])
    source = option.flag if option.field in flags else option.variable
    also = f" ({option.variable})" if source == option.flag else f" ({option.flag})" if option.flag else ""
    return f"{source}{also}: got {got}, takes {option.takes.words}"


def settings_markdown() -> str:
    """Return the table as the text of docs/settings.md."""
    parts = [
        "# Settings\n\nThis file is generated by `python -m coordinator.flags`; a test keeps it current.\n",
        f"{_PRECEDENCE}\n",
        _AWS_CHAIN.replace("AWS_ENDPOINT_URL_S3", "`AWS_ENDPOINT_URL_S3`"),
    ]
    for group, options in groupby(table(), key=lambda option: option.group):
        parts.append(f"\n## {group}\n")
        parts.append("| variable | flag | default | takes | meaning |\n|---|---|---|---|---|")
        for option in options:
            flag = f"`{option.flag}`" if option.flag else "none"
            if option.is_switch and option.flag:
                flag = f"`{option.flag}`, `--no-{option.flag.removeprefix('--')}`"
            cells = (f"`{option.variable}`", flag, option.default, option.takes.words, option.meaning)
            row = "| " + " | ".join(re.sub(r"[|*]", r"\\\g<0>", cell) for cell in cells) + " |"
            parts.append(_BARE_URL.sub(r"`\g<0>`", row))
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(settings_markdown(), end="")  # noqa: T201 - the document itself
