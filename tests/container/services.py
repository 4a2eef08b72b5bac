"""Run what the checks need: a network with the demo site and an S3 server, both seeded, and the fleet under test."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.container.podman import NETWORK, ROOT, Container, eventually, podman, running

CHROMIUM = "tabfleet:chromium"
FIREFOX = "tabfleet:firefox"
SINGLE = "tabfleet-single:chromium"
TRIAL = "tabfleet-trial"
SITE_URL = "http://site:8800/chat"
S3_URL = "http://s3:8333"
BUCKET = "profiles"
MODEL = "demo-small"
READY_S = 180.0
# As a strict orchestrator runs it: not root, read-only except /tmp, no capabilities, no new privileges.
HARDENED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp:mode=1777",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    f"--security-opt=seccomp={ROOT}/docker/seccomp.json",
    "--publish=127.0.0.1::2048",
)


def fetch(url: str, *, headers: Mapping[str, str] | None = None, body: Any = None) -> tuple[int, Any]:
    """Send one request. Return its status and the decoded JSON; (0, None) if nothing answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")
    except OSError:
        return 0, None


@dataclass(frozen=True)
class Fleet:
    """A running container of the production image."""

    container: Container
    url: str
    key: str

    def get(self, path: str, *, key: str = "") -> tuple[int, Any]:
        """Send a GET request, optionally with an API key; return status and JSON."""
        return fetch(self.url + path, headers={"authorization": f"Bearer {key}"} if key else {})

    def ready(self) -> tuple[int, Any]:
        """Return status and body of `/ready`."""
        return self.get("/ready")

    def wait_ready(self, children: int | None = None, *, timeout_s: float = READY_S) -> None:
        """Wait for `children` READY children, or one. Fail at once if the container exits."""

        def is_ready() -> bool:
            status, body = self.ready()
            assert status or self.container.state()["Running"], "the container has exited"
            up = [child for child in (body or {}).get("children", []) if child["state"] == "READY"]
            return status == 200 and len(up) >= (children or 1)

        eventually(is_ready, timeout_s=timeout_s, what=f"/ready with {children or 1} children", now=self.ready)

    def client(self) -> OpenAI:
        """Return an OpenAI client without retries."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=60)

    def ask(self, prompt: str, model: str = MODEL) -> str:
        """Return the text of one streamed completion."""
        stream = self.client().chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@dataclass
class Services:
    """The demo site, the S3 server, and profiles that are logged in to the site and stored in S3."""

    site: Container
    s3: Container
    folder: Path
    key: str
    control_token: str
    admin_secret: str
    reader_secret: str
    images: list[str] = field(default_factory=list)

    @property
    def profiles(self) -> Path:
        """Return a folder with `active/ada.json`, `active/grace.json` and `key.txt`, of uid 10001 and mode 0600."""
        return self.folder / "profiles"

    def ledger(self, **filters: str) -> list[dict[str, Any]]:
        """Return the submissions that the site received."""
        query = "&".join(f"{name}={value}" for name, value in filters.items())
        url = f"http://127.0.0.1:{self.site.port(8800)}/control/ledger?{query}"
        status, body = fetch(url, headers={"x-demo-control": self.control_token})
        assert status == 200, body
        entries: list[dict[str, Any]] = body["entries"]
        return entries

    def reader_environment(self, url: str = S3_URL) -> dict[str, str]:
        """Return settings of the S3 backend, with credentials that may only read the bucket."""
        return {
            "PROFILE_BACKEND": "s3",
            "AUTH_PROFILE_S3_BUCKET": BUCKET,
            "AUTH_PROFILE_S3_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ACCESS_KEY_ID": "READER",
            "AWS_SECRET_ACCESS_KEY": self.reader_secret,
        }

    @contextlib.contextmanager
    def fleet(
        self,
        *command: str,
        image: str = CHROMIUM,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        memory: str = "3g",
        name: str = "fleet",
    ) -> Iterator[Fleet]:
        """Run the image under test, hardened, on the demo site."""
        variables = {"CHAT_SITE": "demo", "SITE_URL": SITE_URL, **(environment or {})}
        every = (*HARDENED, f"--memory={memory}", *options)
        with running(image, *command, name=name, options=every, environment=variables) as container:
            yield Fleet(container, f"http://127.0.0.1:{container.port(2048)}", self.key)

    @property
    def mount(self) -> tuple[str, ...]:
        """Return the options that mount the profiles where the local backend expects them."""
        return (f"--volume={self.profiles}:/app/auth_profiles:ro",)

    def seed(self, *arguments: str, options: Sequence[str] = (), endpoint: str = S3_URL) -> None:
        """Log in again and store the profiles, in S3 or in the mounted folder given as argument."""
        own = ["--env=SITE_URL=http://site:8800", f"--env=API_KEY={self.key}"]
        self._as_admin(endpoint, "python", "trial/seed.py", *arguments, options=[*own, *options])

    def _as_admin(self, endpoint: str, *command: str, options: Sequence[str] = ()) -> None:
        """Run a command in the trial image with the S3 server's admin credentials."""
        variables = {
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_ACCESS_KEY_ID": "ADMIN",
            "AWS_SECRET_ACCESS_KEY": self.admin_secret,
            "AWS_REGION": "us-east-1",
        }
        given = [f"--env={name}={value}" for name, value in variables.items()]
        podman("run", "--rm", f"--network={NETWORK}", *given, *options, TRIAL, *command)

    def delete_object(self, key: str) -> None:
        """Delete an object of the bucket."""
        script = f"import boto3; boto3.session.Session().client('s3').delete_object(Bucket={BUCKET!r}, Key={key!r})"
        self._as_admin(S3_URL, "python", "-c", script)

    def assert_in_ledger(self, answer: str) -> None:
        """Check that the answer came from the page: exactly one submission in the ledger has its token."""
        token = answer.partition("token:")[2].split()[0]
        entries = self.ledger(token=token)
        assert [entry["answer"] for entry in entries] == [answer], f"{answer!r} is not what the site sent: {entries}"


@contextlib.contextmanager
def run_services() -> Iterator[Services]:
    """Run the services while the context lasts."""
    folder = Path(tempfile.mkdtemp(prefix="services-"))
    token, admin, reader = secrets.token_hex(8), secrets.token_hex(16), secrets.token_hex(16)
    podman("network", "rm", "--force", NETWORK, check=False)
    podman("network", "create", NETWORK)
    try:
        with (
            running(
                TRIAL,
                *("python", "-m", "demo.site", "--host", "0.0.0.0"),
                name="site",
                options=["--publish=127.0.0.1::8800"],
                environment={"DEMO_CONTROL_TOKEN": token},
            ) as site,
            running(
                TRIAL, "./trial/s3.sh", name="s3", environment={"ADMIN_SECRET": admin, "READER_SECRET": reader}
            ) as s3,
        ):
            services = Services(site, s3, folder, f"sk-{secrets.token_hex(16)}", token, admin, reader)
            services.profiles.mkdir()
            services.profiles.chmod(0o777)
            services.seed("/out", options=[f"--volume={services.profiles}:/out"])
            services.profiles.chmod(0o755)
            services.seed()
            yield services
    finally:
        podman("network", "rm", "--force", NETWORK, check=False)
        shutil.rmtree(folder, ignore_errors=True)
