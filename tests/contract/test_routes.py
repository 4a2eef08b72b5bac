"""Which route a path means."""

from __future__ import annotations

import pytest

from contract.routes import route_of


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/models/a//b/", "/v1/models/a//b/"),  # a name is taken as it is
        ("/models/a/b", "/v1/models/a/b"),
        ("//v1/models//a", "/v1/models/a"),
        ("/v1/models//", "/v1/models"),
        ("/v1//messages//count_tokens/", "/v1/messages/count_tokens"),
        ("/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/v1", "/v1"),
        ("/v1/", "/v1/"),
        ("", ""),
        ("*", "*"),
        ("/ready", "/ready"),
        ("/ready/", "/ready/"),
        ("/v1/ready", "/v1/ready"),
        ("/admin//reload", "/admin//reload"),
        ("/x/v1/models", "/x/v1/models"),
        ("/v1/chat", "/v1/chat"),
        ("/v1/chat/completions/v1/models/x", "/v1/chat/completions/v1/models/x"),
        ("/v2/chat/completions", "/v2/chat/completions"),
    ],
)
def test_a_path_means_a_route_or_itself(path: str, meant: str) -> None:
    assert route_of(path) == meant
