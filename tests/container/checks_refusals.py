"""Proofs that what cannot work is refused: exit code not 0, one line that says why, no child started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.container.proofs import proof
from tests.container.world import World


def refused(
    world: World, words: str, environment: Mapping[str, str] | None = None, options: Sequence[str] = ()
) -> None:
    """The container ends by itself, says these words and no traceback, and has started no child."""
    with world.fleet(environment=environment, options=options) as fleet:
        exit_code = fleet.container.wait_exit(120)
        log = fleet.container.logs()
        assert exit_code not in {0, 137, 139}, exit_code
        assert words in log, log
        assert "Traceback" not in log, log
        assert "child_started" not in log, log


@proof("a wrong bucket: exit not 0 with the message, no child")
def wrong_bucket(world: World) -> None:
    refused(world, "s3://nowhere/", {**world.reader(), "AUTH_PROFILE_S3_BUCKET": "nowhere"})


@proof("wrong credentials: exit not 0 with the message, no child, and the key is not in it")
def wrong_credentials(world: World) -> None:
    refused(world, "the secret access key is wrong", {**world.reader(), "AWS_SECRET_ACCESS_KEY": "not-the-secret"})
    refused(world, "the access key id is unknown", {**world.reader(), "AWS_ACCESS_KEY_ID": "NOBODY"})


@proof("an empty prefix: exit not 0 with the fixed sentence, no child")
def empty_prefix(world: World) -> None:
    sentence = "S3 backend configured but no auth profiles downloaded from s3://profiles/none/active/"
    refused(world, sentence, {**world.reader(), "AUTH_PROFILE_S3_PREFIX": "/none/"})


@proof("an S3 that does not answer, a bad setting, no site, an empty folder, a full memory plan: one line each")
def other_mistakes(world: World) -> None:
    refused(world, "site:9 does not answer", world.reader("http://site:9"))
    refused(world, "MAX_CHILDREN", {"MAX_CHILDREN": "many"}, world.local)
    refused(world, "CHAT_SITE", {"CHAT_SITE": ""}, world.local)
    refused(world, "LOCAL_PROFILE_DIR")
    refused(world, "set MAX_CHILDREN=1", {}, [*world.local, "--memory=900m"])


@proof("a secret given both ways, and one whose file is missing: exit not 0, the variable named, the value not")
def secret_files(world: World) -> None:
    both = {**world.reader(), "AWS_SECRET_ACCESS_KEY_FILE": "/run/secrets/key"}
    refused(world, "AWS_SECRET_ACCESS_KEY and AWS_SECRET_ACCESS_KEY_FILE are both set", both)
    missing = {**both, "AWS_SECRET_ACCESS_KEY": ""}
    refused(world, "AWS_SECRET_ACCESS_KEY_FILE: /run/secrets/key is not a file that uid 10001 can read", missing)
