"""What a child reads from its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from api_utils.settings import ChildSettings
from browser.settings import VariableError, read_variables


def test_the_browser_gets_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM_SANDBOX", "Off\r")  # of a file of variables that was saved on Windows
    monkeypatch.setenv("EXTRA_CA_FILE", "/etc/company.pem")
    given = read_variables(ChildSettings)
    assert given.chromium_sandbox == "off"
    assert given.extra_ca_file == Path("/etc/company.pem")


def test_what_is_not_set_or_empty_is_left_to_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM_SANDBOX", "")
    monkeypatch.delenv("EXTRA_CA_FILE", raising=False)
    given = read_variables(ChildSettings)
    assert given.chromium_sandbox is None
    assert given.extra_ca_file is None


def test_a_wrong_value_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM_SANDBOX", "perhaps")
    with pytest.raises(VariableError, match=r"^CHROMIUM_SANDBOX: .*'on' or 'off', not 'perhaps'$"):
        read_variables(ChildSettings)
