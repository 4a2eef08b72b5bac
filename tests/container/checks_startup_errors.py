"""Checks of failing starts: exit code not 0, one line with the reason, no child started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.container.checks import check
from tests.container.services import Services


def refused(
    services: Services, words: str, environment: Mapping[str, str] | None = None, options: Sequence[str] = ()
) -> None:
    """Expect the container to exit by itself with these words in its log, no traceback and no child started."""
    with services.fleet(environment=environment, options=options) as fleet:
        exit_code = fleet.container.wait_exit(120)
        log = fleet.container.logs()
        assert exit_code not in {0, 137, 139}, exit_code
        assert words in log, log
        assert "Traceback" not in log, log
        assert "child_started" not in log, log


@check("a wrong bucket: exit not 0 with the reason, no child")
def wrong_bucket(services: Services) -> None:
    refused(services, "s3://nowhere/", {**services.reader_environment(), "AUTH_PROFILE_S3_BUCKET": "nowhere"})


@check("wrong credentials: exit not 0 with the reason, no child")
def wrong_credentials(services: Services) -> None:
    refused(
        services,
        "the secret access key is wrong",
        {**services.reader_environment(), "AWS_SECRET_ACCESS_KEY": "not-the-secret"},
    )
    refused(services, "the access key id is unknown", {**services.reader_environment(), "AWS_ACCESS_KEY_ID": "NOBODY"})


@check("a prefix without profiles: exit not 0 with the documented message, no child")
def empty_prefix(services: Services) -> None:
    sentence = "S3 backend configured but no auth profiles downloaded from s3://profiles/none/active/"
    refused(services, sentence, {**services.reader_environment(), "AUTH_PROFILE_S3_PREFIX": "/none/"})


@check("an unreachable S3, an invalid setting, no site, an empty folder, too little memory: one line each")
def other_mistakes(services: Services) -> None:
    refused(services, "site:9 does not answer", services.reader_environment("http://site:9"))
    refused(services, "MAX_CHILDREN", {"MAX_CHILDREN": "many"}, services.mount)
    refused(services, "CHAT_SITE", {"CHAT_SITE": ""}, services.mount)
    refused(services, "LOCAL_PROFILE_DIR")
    refused(services, "set MAX_CHILDREN=1", {}, [*services.mount, "--memory=900m"])


@check("a secret given as value and as file, and one whose file is missing: exit not 0, naming the variable")
def secret_files(services: Services) -> None:
    both = {**services.reader_environment(), "AWS_SECRET_ACCESS_KEY_FILE": "/run/secrets/key"}
    refused(services, "AWS_SECRET_ACCESS_KEY and AWS_SECRET_ACCESS_KEY_FILE are both set", both)
    missing = {**both, "AWS_SECRET_ACCESS_KEY": ""}
    refused(services, "AWS_SECRET_ACCESS_KEY_FILE: /run/secrets/key is not a file that uid 10001 can read", missing)
