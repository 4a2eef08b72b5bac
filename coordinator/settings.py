"""The coordinator's settings: one frozen object, a flag over the environment over a default.

This class is the table. The error messages, ``--help`` and docs/settings.md are made from it, by
`coordinator.flags`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, FilePath, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from contract.child_environment import (
    FIRST_TOKEN_TIMEOUT_S,
    LOGIN_CHECK_S,
    MAX_BODY_BYTES,
    SLEEP_CHECK_S,
    STREAM_IDLE_TIMEOUT_S,
)
from contract.proxies import NO_PROXY_WORDS, PROXY_WORDS, parse_no_proxy, parse_proxy
from coordinator.shard import SHARD_WORDS, Shard

PROFILES: Final = "Profiles and keys"
S3: Final = "Profiles from S3"
SESSIONS: Final = "Saved sessions"
ADDRESS: Final = "The coordinator's address"
CELLS: Final = "Several machines"
CHILDREN: Final = "Children"
REQUESTS: Final = "Requests"
HEALTH: Final = "Health and restarts"
NETWORK: Final = "Network"
OUTPUT: Final = "Logs and metrics"
ALERTS: Final = "Alerts"

_LISTS: Final = "The credentials need the IAM action s3:ListBucket on this bucket"
_GETS: Final = "The credentials need the IAM action s3:GetObject on PREFIX/active/*, PREFIX/key.txt, PREFIX/fleet.toml"


@dataclass(frozen=True)
class Takes:
    """What a type of setting takes, in words, and its placeholder in ``--help``."""

    words: str
    placeholder: str


@dataclass(frozen=True)
class About:
    """What the table says of one setting beside its type and its default.

    A flag of "" is the variable's name in kebab case; None means that there is no flag. A secret's
    value is never printed.
    """

    group: str
    meaning: str
    flag: str | None = ""
    default_text: str | None = None
    secret: bool = False


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _absolute_site(site: str) -> str:
    """Return the name of a site in sites/ as it is, and the path of a site file absolute."""
    is_path = "/" in site or site.endswith(".toml")
    return str(Path(site).absolute()) if is_path else site


def _absolute_or_s3(path: str) -> str:
    """Return the path of a file absolute; `s3` stands for the one in the bucket."""
    return path if path == "s3" else str(Path(path).absolute())


def _kept_if(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Return a validator that keeps a text that can be parsed; the text is what children are given."""

    def check(text: str) -> str:
        parse(text)
        return text

    return check


def parse_origins(text: str) -> tuple[str, ...]:
    """Return origins (https://www.rfc-editor.org/rfc/rfc6454) that stand with commas between. Raises ValueError."""
    origins = tuple(origin for item in text.split(",") if (origin := item.strip().lower()))
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError("is no list of origins")
    return origins


def _check_shard(text: str) -> str:
    """Return what names a share of the logins. Raises ValueError; the host's name is looked at later."""
    is_by_host = text.startswith("hostname/")
    Shard.parse(text, "any-0" if is_by_host else "")
    return text


def check_web_address(text: str) -> None:
    """Raise ValueError, without the text, unless it is the http or https address of a host."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is no address") from None
    printable = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.fragment or not printable:
        raise ValueError("is no address of a web server")


def store_urls(text: str) -> tuple[str, ...]:
    """Return the addresses of the members of a store, which stand with commas between. Raises ValueError."""
    urls = tuple(url for item in text.split(",") if (url := item.strip().rstrip("/")))
    if not urls:
        raise ValueError("names no address")
    for url in urls:
        check_web_address(url)
        parts = urlsplit(url)
        if parts.path or parts.query or parts.username is not None:
            raise ValueError("has more than a host and a port")
    return urls


_ORIGIN: Final = re.compile(r"https?://(?:[\w.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")

Port = Annotated[int, Field(ge=1, le=65535), Takes("a port number from 1 to 65535", "PORT")]
AnyPort = Annotated[int, Field(ge=0, le=65535), Takes("a port number, or 0 for any free one", "PORT")]
Count = Annotated[int, Field(ge=0), Takes("a whole number, 0 or more", "N")]
Number = Annotated[int, Field(ge=1), Takes("a whole number, 1 or more", "N")]
UpTo16 = Annotated[int, Field(ge=1, le=16), Takes("a whole number from 1 to 16", "N")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), Takes("a number of seconds above 0", "SECONDS")]
Interval = Annotated[float, Field(ge=0, allow_inf_nan=False), Takes("a number of seconds, 0 or more", "SECONDS")]
Days = Annotated[float, Field(ge=0, le=3650), Takes("a number of days, 0 to 3650", "DAYS")]
Switch = Annotated[bool, Takes("true or false", "BOOL")]
Text = Annotated[str, Takes("a text", "TEXT")]
# Paths are made absolute, because children run in another folder than we.
SiteName = Annotated[str, AfterValidator(_absolute_site), Takes("a text", "TEXT")]
FleetFileName = Annotated[
    str,
    AfterValidator(_absolute_or_s3),
    Takes("a path, or s3 for PREFIX/fleet.toml in the bucket of the profiles", "PATH"),
]
AnyPath = Annotated[Path, AfterValidator(Path.absolute), Takes("a path", "PATH")]
ExistingFile = Annotated[FilePath, AfterValidator(Path.absolute), Takes("the path of an existing file", "PATH")]
ProxyUrl = Annotated[str, AfterValidator(_kept_if(parse_proxy)), Takes(PROXY_WORDS, "URL")]
DirectHosts = Annotated[str, AfterValidator(_kept_if(parse_no_proxy)), Takes(NO_PROXY_WORDS, "HOSTS")]
Origins = Annotated[
    str, AfterValidator(_kept_if(parse_origins)), Takes("origins such as https://app.example.com, or *", "ORIGINS")
]
WebAddress = Annotated[
    str, AfterValidator(_kept_if(check_web_address)), Takes("an address that begins with https:// or http://", "URL")
]
Prefix = Annotated[str, AfterValidator(lambda prefix: prefix.strip("/")), Takes("a key prefix", "PREFIX")]
StoreUrls = Annotated[
    str, AfterValidator(_kept_if(store_urls)), Takes("addresses https://HOST:PORT, with commas between", "URL,...")
]
KeyPrefix = Annotated[str, Field(pattern=r"\A/[\w.-]+(/[\w.-]+)*\z"), Takes("a path such as /tabfleet", "PREFIX")]
ClaimTtl = Annotated[int, Field(ge=2, le=3600), Takes("a whole number of seconds from 2 to 3600", "SECONDS")]
ShardText = Annotated[str, AfterValidator(_check_shard), Takes(SHARD_WORDS, "I/N")]
CellName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$"),
    Takes("a name of letters, digits, dots, hyphens and underscores", "NAME"),
]
BackendName = Annotated[Literal["local", "s3"], Takes("local or s3", "NAME"), BeforeValidator(_lower)]
EngineName = Annotated[
    Literal["camoufox", "chromium", "firefox"],
    Takes("camoufox, chromium or firefox", "NAME"),
    BeforeValidator(_lower),
]
SandboxName = Annotated[Literal["on", "off"], Takes("on or off", "NAME"), BeforeValidator(_lower)]
LogFormat = Annotated[Literal["console", "json"], Takes("console or json", "NAME"), BeforeValidator(_lower)]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    Takes("debug, info, warning or error", "LEVEL"),
    BeforeValidator(_lower),
]


class Settings(BaseSettings):
    """Every setting of the coordinator. A field's name is its variable's name in lower case.

    Made by `coordinator.flags.load_settings`, whose errors are for people.
    """

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, validate_default=True)

    profile_backend: Annotated[BackendName, About(PROFILES, "Where profiles and keys come from")] = "local"
    local_profile_dir: Annotated[
        AnyPath,
        About(PROFILES, "Folder of profiles (*.json) for the local backend; used in place", flag="--profiles"),
    ] = Path("auth_profiles/active")
    auth_key_file_path: Annotated[
        AnyPath | None,
        About(
            PROFILES,
            "File of API keys, one a line, with role=view or role=operate after those that may do more than call; "
            "overrides the hydrated one",
            flag=None,
            default_text="the hydrated key.txt, else auth_profiles/key.txt if it exists",
        ),
    ] = None
    require_api_key: Annotated[
        Switch, About(PROFILES, "Refuse to start without any API key, instead of serving an open API")
    ] = False

    auth_profile_s3_bucket: Annotated[Text | None, About(S3, f"Bucket that holds the profiles. {_LISTS}")] = None
    auth_profile_s3_prefix: Annotated[
        Prefix, About(S3, f"Key prefix: profiles are PREFIX/active/*.json, keys PREFIX/key.txt. {_GETS}")
    ] = ""
    auth_profile_s3_region: Annotated[
        Text | None,
        Field(validation_alias=AliasChoices("auth_profile_s3_region", "aws_region")),
        About(
            S3,
            "Region of the bucket (needs no IAM action of its own)",
            default_text="AWS_REGION, else the AWS chain",
        ),
    ] = None
    auth_profile_s3_connect_timeout_s: Annotated[Seconds, About(S3, "Longest wait for a connection")] = 5.0
    auth_profile_s3_read_timeout_s: Annotated[
        Seconds, About(S3, "Longest silence while listing (s3:ListBucket) or reading (s3:GetObject)")
    ] = 30.0
    auth_profile_cache_dir: Annotated[AnyPath, About(S3, "Folder that downloads are kept in")] = Path(
        "/tmp/auth_profiles"  # noqa: S108 - the fixed default; hydration refuses a folder that is not ours
    )
    auth_profile_allow_stale: Annotated[
        Switch, About(S3, "Start with the last hydration when S3 cannot be reached")
    ] = False
    auth_profile_refresh_s: Annotated[
        Interval, About(PROFILES, "Reload profiles and keys this often; 0 never does")
    ] = 0.0

    session_dir: Annotated[
        AnyPath | None,
        About(
            SESSIONS,
            "Folder on a volume that keeps what browsers make of their logins, a file for each; not set, what a site "
            "has changed of a login is lost when the coordinator ends",
        ),
    ] = None
    session_key_file: Annotated[
        ExistingFile | None,
        About(SESSIONS, "File of age identities, as age-keygen writes it; with it saved sessions are encrypted"),
    ] = None
    session_s3_prefix: Annotated[
        Prefix | None,
        About(
            SESSIONS,
            "Key prefix in the profiles' bucket for copies of the encrypted sessions. The credentials need the IAM "
            "actions s3:PutObject and s3:GetObject on PREFIX/*",
        ),
    ] = None

    coordinator_host: Annotated[
        Text,
        About(
            ADDRESS, "Address to listen on; on a loopback one the Host header must name loopback or be in ALLOWED_HOSTS"
        ),
    ] = "127.0.0.1"
    allowed_hosts: Annotated[
        Text,
        About(
            ADDRESS,
            "Host names, with commas, by which the API may be reached while it is open or bound to loopback; * is any",
            default_text="localhost and IP addresses",
        ),
    ] = ""
    cors_allowed_origins: Annotated[
        Origins,
        About(ADDRESS, "Origins of web pages whose scripts may call /v1 from a browser, with commas; * is any"),
    ] = ""
    coordinator_port: Annotated[AnyPort, About(ADDRESS, "Port of the API and the health routes")] = 2048

    shard: Annotated[
        ShardText | None,
        About(
            CELLS,
            "Share of the logins that this coordinator takes, where n of them use the same profiles: i/n, or "
            "hostname/n for the number at the end of the host's name; not set, it takes all",
        ),
    ] = None
    cell: Annotated[
        CellName | None,
        About(
            CELLS,
            "Name of this coordinator among several, in claims, log lines, /ready and metrics",
            default_text="the host's name where SHARD or CLAIMS is set, else none",
        ),
    ] = None
    claims: Annotated[
        Literal["none", "etcd"],
        BeforeValidator(_lower),
        Takes("none or etcd", "STORE"),
        About(
            CELLS,
            "Where coordinators with the same profiles claim logins, so that each runs in one of them; without it, "
            "one that uses the same profiles needs SHARD",
        ),
    ] = "none"
    claims_url: Annotated[
        StoreUrls | None,
        About(CELLS, "Addresses of etcd's members, with commas; https except on loopback"),
    ] = None
    claims_prefix: Annotated[KeyPrefix, About(CELLS, "Key in etcd below which everything of this fleet is kept")] = (
        "/tabfleet"
    )
    claims_ca_file: Annotated[
        ExistingFile | None,
        About(
            CELLS, "Certificates of the authorities that etcd's certificate is checked by", default_text="the system's"
        ),
    ] = None
    claims_cert_file: Annotated[
        ExistingFile | None, About(CELLS, "Client certificate that etcd is shown, with its chain")
    ] = None
    claims_key_file: Annotated[ExistingFile | None, About(CELLS, "Key of that certificate")] = None
    claim_ttl_s: Annotated[
        ClaimTtl,
        About(
            CELLS,
            "Seconds after which the claims of a coordinator that is gone are free; one that does not reach the store "
            "for so long ends its browsers; the same for all of them",
        ),
    ] = 10

    base_api_port: Annotated[Port, About(CHILDREN, "Port of the first child's API")] = 3100
    base_stream_port: Annotated[Port, About(CHILDREN, "Port of the first child's stream")] = 3200
    port_step: Annotated[Number, About(CHILDREN, "Distance between the ports of two children")] = 1
    max_children: Annotated[
        Count, About(CHILDREN, "Most children at a time, the other profiles stand by; 0 is one a profile")
    ] = 0
    logins_per_browser: Annotated[
        UpTo16,
        About(
            CHILDREN,
            "Most logins of one site in one browser, all of which end with it; a login with a proxy of its own has "
            "a browser of its own; 1 with camoufox",
        ),
    ] = 1
    spare_browsers: Annotated[
        Count,
        About(
            CHILDREN,
            "Browsers without a login that are kept ready, for starts that would each take a new one; 0 keeps none",
        ),
    ] = 0
    chat_site: Annotated[
        SiteName | None,
        About(
            CHILDREN,
            "Site file: a name in sites/ or the path of a TOML file; required unless FLEET_FILE gives each login one",
            flag="--site",
        ),
    ] = None
    fleet_file: Annotated[
        FleetFileName | None,
        About(CHILDREN, "Fleet file: which site, proxy, locale, models and weight single logins have; and aliases"),
    ] = None
    site_url: Annotated[
        Text | None, About(CHILDREN, "Address of the site, in place of that of CHAT_SITE's file", flag=None)
    ] = None
    browser_engine: Annotated[EngineName, About(CHILDREN, "Browser to drive", flag="--engine")] = "camoufox"
    headless: Annotated[Switch, About(CHILDREN, "Run browsers without a display")] = True
    browser_executable: Annotated[
        AnyPath | None,
        About(CHILDREN, "Browser of the engines chromium and firefox", default_text="found on PATH"),
    ] = None
    camoufox_executable_path: Annotated[
        AnyPath | None,
        About(CHILDREN, "Browser of the engine camoufox", flag=None, default_text="Camoufox's own build"),
    ] = None
    chromium_sandbox: Annotated[
        SandboxName | None,
        About(
            CHILDREN,
            "Chromium's sandbox; off where the kernel or the container allows no user namespaces",
            default_text="on, but off for root, who has none",
        ),
    ] = None

    max_queue: Annotated[Count, About(REQUESTS, "Most requests that wait for a child; more get 429")] = 100
    queue_timeout_s: Annotated[Seconds, About(REQUESTS, "Longest wait for a child, then 503")] = 60.0
    first_token_timeout_s: Annotated[
        Seconds, About(REQUESTS, "Longest wait from the prompt to the first piece of the answer")
    ] = FIRST_TOKEN_TIMEOUT_S
    stream_idle_timeout_s: Annotated[
        Seconds, About(REQUESTS, "Longest silence within an answer, and longest wait for a slow reader")
    ] = STREAM_IDLE_TIMEOUT_S
    drain_timeout_s: Annotated[Seconds, About(REQUESTS, "Time that running answers get to finish after SIGTERM")] = 30.0
    max_connections: Annotated[
        Number, About(REQUESTS, "Most client connections; then the longest idle one is closed for a new one")
    ] = 4096
    keep_alive_timeout_s: Annotated[
        Seconds,
        About(REQUESTS, "Time that an idle connection is kept; longer than the load balancer in front keeps it"),
    ] = 620.0
    max_body_bytes: Annotated[Number, About(REQUESTS, "Largest request body; larger ones get 413")] = MAX_BODY_BYTES
    max_buffered_bytes: Annotated[
        Number, About(REQUESTS, "Most bytes of request bodies that are held at a time; then more get 503")
    ] = 96 * 1024 * 1024
    responses_ttl_s: Annotated[
        Interval,
        About(REQUESTS, "Time that a response of /v1/responses is kept in memory after its last use; 0 keeps none"),
    ] = 3600.0
    max_responses_bytes: Annotated[
        Number, About(REQUESTS, "Most bytes of such responses; then what was used longest ago is dropped")
    ] = 32 * 1024 * 1024
    estimate_usage: Annotated[Switch, About(REQUESTS, "Give answers a usage: an estimate, for a page tells none")] = (
        True
    )

    start_timeout_s: Annotated[Seconds, About(HEALTH, "Time a child gets to become ready")] = 60.0
    probe_interval_s: Annotated[Seconds, About(HEALTH, "Time between two probes of a child")] = 1.0
    unhealthy_after: Annotated[Number, About(HEALTH, "Failed probes in a row that make it unhealthy")] = 3
    healthy_after: Annotated[Number, About(HEALTH, "Good probes in a row that make it ready again")] = 1
    unhealthy_timeout_s: Annotated[Seconds, About(HEALTH, "Time unhealthy after which it is restarted")] = 30.0
    backoff_max_s: Annotated[Seconds, About(HEALTH, "Longest delay before a restart")] = 60.0
    login_check_s: Annotated[Seconds, About(HEALTH, "Time between two looks at an idle child's login")] = LOGIN_CHECK_S
    sleep_after_s: Annotated[
        Interval, About(CHILDREN, "Idle time after which a login's page is closed, its session kept; 0 never does")
    ] = 0.0
    sleep_check_s: Annotated[Seconds, About(CHILDREN, "Time after which a closed page is opened to see its login")] = (
        SLEEP_CHECK_S
    )
    expiry_warning_days: Annotated[
        Days, About(HEALTH, "Days before a login expires from which /ready, log and hooks tell of it; 0 never does")
    ] = 3.0
    site_check_s: Annotated[
        Interval,
        About(HEALTH, "Longest time between two checks of a site file on an idle login's page; 0 never checks"),
    ] = 3600.0
    child_memory_limit_mb: Annotated[
        Count, About(HEALTH, "Restart a child, once idle, above this many MB; 0 never does")
    ] = 0

    extra_ca_file: Annotated[
        ExistingFile | None,
        About(NETWORK, "PEM file of further authorities to trust, for S3, alerts and the browsers", flag=None),
    ] = None
    https_proxy: Annotated[
        ProxyUrl | None,
        Field(repr=False),
        About(NETWORK, "Proxy for S3, alerts and the browsers; loopback is never proxied", flag=None, secret=True),
    ] = None
    no_proxy: Annotated[
        DirectHosts | None,
        About(NETWORK, "What is reached without the proxy; a name stands for all names below it too", flag=None),
    ] = None

    metrics_public: Annotated[Switch, About(OUTPUT, "Serve /metrics without an API key")] = False
    log_format: Annotated[
        LogFormat | None,
        About(OUTPUT, "How log lines look", default_text="console on a terminal, json otherwise"),
    ] = None
    log_level: Annotated[LogLevel, About(OUTPUT, "Least level that is logged")] = "info"
    log_dir: Annotated[
        AnyPath | None, About(OUTPUT, "Folder for the children's logs, reopened on SIGHUP; not set, they go to stderr")
    ] = None

    alert_url: Annotated[
        WebAddress | None,
        Field(repr=False),
        About(
            ALERTS, "Address that is told, by signed webhooks, of what an operator should know", flag=None, secret=True
        ),
    ] = None
    alert_secret_file: Annotated[
        ExistingFile | None,
        About(ALERTS, "File with the secret, whsec_ and base64, that alerts are signed with; needed with ALERT_URL"),
    ] = None
    alert_state_file: Annotated[
        AnyPath | None,
        About(
            ALERTS,
            "File in which alerts that are not delivered yet outlive the coordinator; not set, they are lost with it",
        ),
    ] = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - what pydantic-settings hands over
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where values come from; the others, which are not set up, would take as long as these."""
        return init_settings, env_settings

    @model_validator(mode="before")
    @classmethod
    def _without_line_ends(cls, given: dict[str, Any]) -> dict[str, Any]:
        """A file of variables that was saved on Windows leaves a carriage return at the end of each value."""
        stripped = {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
        return {name: value for name, value in stripped.items() if value != "" or given[name] == ""}

    @model_validator(mode="after")
    def _the_host_has_a_share(self) -> Self:
        try:
            _ = self.own_shard
        except ValueError as error:
            raise ValueError(f"SHARD={self.shard} (--shard): {error}; name the share itself, as i/n") from None
        return self

    @model_validator(mode="after")
    def _claims_have_what_they_need(self) -> Self:
        if self.claims == "none":
            for name in ("claims_url", "claims_ca_file", "claims_cert_file", "claims_key_file"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name.upper()} needs CLAIMS=etcd (--claims)")
            return self
        given = f"CLAIMS={self.claims} (--claims)"
        if self.shard is not None:
            raise ValueError(f"{given} and SHARD exclude each other: with claims, each coordinator finds its own share")
        if self.claims_url is None:
            raise ValueError(f"{given} needs CLAIMS_URL (--claims-url): the addresses of etcd's members, with commas")
        for name in ("session_dir", "session_key_file"):
            if getattr(self, name) is None:
                raise ValueError(
                    f"{given} needs {name.upper()} (--{name.replace('_', '-')}): what browsers make of a login goes"
                    " with it to the next coordinator, encrypted"
                )
        return self

    @model_validator(mode="after")
    def _the_way_to_claims_is_safe(self) -> Self:
        if (self.claims_cert_file is None) != (self.claims_key_file is None):
            raise ValueError("CLAIMS_CERT_FILE and CLAIMS_KEY_FILE are needed together: a certificate and its key")
        plain = [
            urlsplit(url) for url in (store_urls(self.claims_url) if self.claims_url else ()) if url.startswith("http:")
        ]
        given = "CLAIMS_URL (--claims-url) has an http: address"
        if plain and (self.claims_ca_file is not None or self.claims_cert_file is not None):
            raise ValueError(f"{given}, where certificates are not used; take https:")
        if any(not _is_loopback(url.hostname or "") for url in plain):
            raise ValueError(
                f"{given} of another machine: whoever is on the way could take claims away; take https:, with"
                " CLAIMS_CERT_FILE and CLAIMS_KEY_FILE"
            )
        return self

    @model_validator(mode="after")
    def _s3_names_a_bucket(self) -> Self:
        if self.profile_backend == "s3" and self.auth_profile_s3_bucket is None:
            raise ValueError(
                "PROFILE_BACKEND=s3 needs AUTH_PROFILE_S3_BUCKET (--auth-profile-s3-bucket):"
                " the bucket that holds the profiles"
            )
        return self

    @model_validator(mode="after")
    def _sessions_have_a_place_of_their_own(self) -> Self:
        if self.session_dir is None:
            for name in ("session_key_file", "session_s3_prefix"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name.upper()} needs SESSION_DIR (--session-dir): the folder of the sessions")
            return self
        name = "auth_profile_cache_dir" if self.profile_backend == "s3" else "local_profile_dir"
        if self.session_dir.is_relative_to(folder := getattr(self, name)):
            raise ValueError(
                f"SESSION_DIR={self.session_dir} lies in {name.upper()}={folder}, which holds profiles;"
                " choose a folder of its own"
            )
        return self

    @model_validator(mode="after")
    def _sessions_in_s3_are_encrypted_and_apart(self) -> Self:
        sessions = self.session_s3_prefix
        if sessions is None:
            return self
        given = f"SESSION_S3_PREFIX={sessions} (--session-s3-prefix)"
        if self.profile_backend != "s3":
            raise ValueError(f"{given} needs PROFILE_BACKEND=s3: sessions go to the bucket of the profiles")
        if self.session_key_file is None:
            raise ValueError(f"{given} needs SESSION_KEY_FILE (--session-key-file): nothing goes to S3 in plain")
        for used in ("active", "key.txt"):
            kept = f"{self.auth_profile_s3_prefix}/{used}".lstrip("/")
            if f"{kept}/".startswith(f"{sessions}/".lstrip("/")) or f"{sessions}/".startswith(f"{kept}/"):
                raise ValueError(
                    f"{given} overlaps with {kept}, which must stay read-only; choose a prefix beside it, such as"
                    f" {f'{self.auth_profile_s3_prefix}/sessions'.lstrip('/')}"
                )
        return self

    @model_validator(mode="after")
    def _a_fleet_file_in_s3_needs_s3(self) -> Self:
        if self.fleet_file == "s3" and self.profile_backend != "s3":
            raise ValueError("FLEET_FILE=s3 (--fleet-file) needs PROFILE_BACKEND=s3; or give the path of a file")
        return self

    @model_validator(mode="after")
    def _the_engine_can_use_the_proxy(self) -> Self:
        problem = self.https_proxy and parse_proxy(self.https_proxy).unusable_by(self.browser_engine)
        if problem:
            raise ValueError(f"HTTPS_PROXY: {problem}")
        return self

    @model_validator(mode="after")
    def _the_engine_can_share_a_browser(self) -> Self:
        if self.logins_per_browser > 1 and self.browser_engine == "camoufox":
            raise ValueError(
                f"LOGINS_PER_BROWSER={self.logins_per_browser} (--logins-per-browser) needs BROWSER_ENGINE=chromium or"
                " firefox: with camoufox each browser is one identity, which two logins must not share"
            )
        return self

    @model_validator(mode="after")
    def _alerts_are_signed(self) -> Self:
        if self.alert_url is not None and self.alert_secret_file is None:
            raise ValueError(
                "ALERT_URL needs ALERT_SECRET_FILE (--alert-secret-file):"
                " the file with the secret that alerts are signed with"
            )
        return self

    @property
    def own_shard(self) -> Shard | None:
        """The share of the logins that this coordinator takes; None for all of them."""
        return Shard.parse(self.shard, socket.gethostname()) if self.shard else None

    @property
    def is_cell(self) -> bool:
        """Whether this coordinator is one of several, with a balancer before them."""
        return self.shard is not None or self.claims != "none"

    @property
    def own_cell(self) -> str | None:
        """The name of this coordinator among several; None where it has none."""
        return self.cell or (socket.gethostname() if self.is_cell else None)

    @property
    def bound_to_loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        return _is_loopback(self.coordinator_host)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
