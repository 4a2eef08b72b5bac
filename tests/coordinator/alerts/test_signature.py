"""Signatures that the library of Standard Webhooks accepts, and the file of secrets."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from coordinator.alerts.alert import WORDS, Alert, AlertKind
from coordinator.alerts.signature import read_secrets, sign
from coordinator.errors import SettingsError

NAMES = st.text(st.characters(exclude_categories=()), max_size=40)  # with what UTF-8 cannot express


@given(key=st.binary(min_size=24, max_size=64), name=NAMES, kind=st.sampled_from(AlertKind))
def test_the_library_verifies_what_is_signed_and_nothing_else(key: bytes, name: str, kind: AlertKind) -> None:
    alert = Alert(kind, 1.7e9, {"child": name})
    headers = sign((key,), alert.id, int(time.time()), alert.body())
    body = Webhook(key).verify(alert.body(), headers)
    assert body == {
        "type": kind.value,
        "timestamp": "2023-11-14T22:13:20.000Z",
        "data": {"message": WORDS[kind], "child": name},
    }
    for changed in (alert.body() + b" ", json.dumps(body | {"type": "other"}).encode()):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(changed, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(key).verify(alert.body(), headers | {"webhook-id": "msg_other"})


def secret(length: int = 32) -> str:
    return "whsec_" + base64.b64encode(bytes(range(length))).decode()


def test_each_secret_of_the_file_signs_so_that_a_receiver_can_change_over(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    old, new = secret(24), secret(64)
    file.write_bytes(f"\ufeff# the new one\r\n{new}\r\n\r\n{old.rstrip('=')}\r\n".encode())
    alert = Alert(AlertKind.TEST, 0.0)
    headers = sign(read_secrets(file), alert.id, int(time.time()), alert.body())
    for one in (old, new):
        assert Webhook(one).verify(alert.body(), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret(33)).verify(alert.body(), headers)


WRONG = {
    "empty": "",
    "only a comment": "# secret\n",
    "no prefix": secret().removeprefix("whsec_"),
    "prefix alone": "whsec_",
    "too short": secret(23),
    "too long": secret(65),
    "no base64": "whsec_canary!canary!canary!canary!canary!",
    "another scheme's": "whsk_" + secret().removeprefix("whsec_"),
    "two in a line": f"{secret()} {secret()}",
    "second is wrong": f"{secret()}\nwhsec_canary",
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_without_a_secret_is_an_error_that_does_not_repeat_it(tmp_path: Path, case: str) -> None:
    file = tmp_path / "secret"
    file.write_text(WRONG[case])
    with pytest.raises(SettingsError) as caught:
        read_secrets(file)
    line = str(caught.value)
    assert line.startswith("ALERT_SECRET_FILE: ")
    assert "whsec_ and the base64" in line
    assert "\n" not in line
    assert "canary" not in line
    assert secret()[6:30] not in line


def test_a_file_that_cannot_be_read_or_is_no_text_is_an_error_in_a_line(tmp_path: Path) -> None:
    for path, content in ((tmp_path / "gone", None), (tmp_path / "binary", b"\xff\xfe\x00")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError, match=r"^ALERT_SECRET_FILE: ") as caught:
            read_secrets(path)
        assert str(tmp_path) not in str(caught.value)
