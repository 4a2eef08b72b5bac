"""A login's surroundings: what is written is read, and what is damaged is refused without its content."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from contract.surroundings import (
    SURROUNDINGS,
    Surroundings,
    SurroundingsError,
    Viewport,
    read_surroundings,
    write_surroundings,
)

ALL = Surroundings(
    proxy="socks5://user:canary-password@127.0.0.1:1080",
    locale="de-DE",
    timezone="Europe/Berlin",
    viewport=Viewport(width=390, height=844),
    user_agent="Agent/1.0",
)


def test_what_is_written_is_read_by_its_owner_alone(tmp_path: Path) -> None:
    write_surroundings(tmp_path, ALL)
    assert read_surroundings(tmp_path) == ALL
    assert stat.S_IMODE((tmp_path / SURROUNDINGS).stat().st_mode) == 0o600
    assert "canary-password" not in repr(ALL)


def test_defaults_are_no_file(tmp_path: Path) -> None:
    write_surroundings(tmp_path, ALL)
    write_surroundings(tmp_path, Surroundings())
    assert not list(tmp_path.iterdir())
    assert read_surroundings(tmp_path) == Surroundings()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"proxy": ["canary"]}',
        '{"canary": 1}',
        '{"viewport": {"width": 1, "height": 999}}',
        "\x00canary",
    ],
    ids=str,
)
def test_damage_is_an_error_without_the_content(tmp_path: Path, content: str) -> None:
    (tmp_path / SURROUNDINGS).write_text(content)
    with pytest.raises(SurroundingsError) as raised:
        read_surroundings(tmp_path)
    assert SURROUNDINGS in str(raised.value)
    assert '"canary' not in str(raised.value)
