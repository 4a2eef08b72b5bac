"""What the settings mean to each part: supervision, the proxy, and the children's command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.logs import log_format
from coordinator.local.launcher import LocalLauncher
from coordinator.local.run_root import RunRoot
from coordinator.proxy.application import ProxyConfig
from coordinator.proxy.exchange import Limits
from coordinator.supervision.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.settings import Settings

_PASSED_ON: Final = (
    "site_url",
    "browser_executable",
    "camoufox_executable_path",
    "chromium_sandbox",
    "first_token_timeout_s",
    "stream_idle_timeout_s",
    "login_check_s",
    "max_body_bytes",
    "log_level",
    "extra_ca_file",
    "https_proxy",
    "no_proxy",
)


def policy_of(settings: Settings) -> Policy:
    """The numbers that supervision goes by."""
    return Policy(
        max_children=settings.max_children,
        start_timeout_s=settings.start_timeout_s,
        probe_interval_s=settings.probe_interval_s,
        unhealthy_after=settings.unhealthy_after,
        healthy_after=settings.healthy_after,
        unhealthy_timeout_s=settings.unhealthy_timeout_s,
        backoff_max_s=settings.backoff_max_s,
        drain_timeout_s=settings.drain_timeout_s,
        memory_limit_bytes=settings.child_memory_limit_mb * 1_000_000,
    )


def proxy_config_of(settings: Settings) -> ProxyConfig:
    """The numbers that the proxy goes by."""
    limits = Limits(settings.queue_timeout_s, settings.first_token_timeout_s, settings.stream_idle_timeout_s)
    return ProxyConfig(limits, settings.max_body_bytes, owner=Path(settings.chat_site or "tabfleet").stem)


def launcher_of(settings: Settings, program: Sequence[str]) -> LocalLauncher:
    """What starts the children. Raises LaunchError, RunFolderError."""
    return LocalLauncher(
        RunRoot(),
        arguments=child_arguments(settings),
        environment=child_environment(settings),
        log_dir=settings.log_dir,
        program=program,
    )


def child_arguments(settings: Settings) -> tuple[str, ...]:
    """The part of a child's command line that is the same for all."""
    headless = "--headless" if settings.headless else "--no-headless"
    return (headless, "--site", site_argument(settings.chat_site or ""), "--engine", settings.browser_engine)


def site_argument(site: str) -> str:
    """A site's name as it is, a path made absolute: children run in another folder than we."""
    return str(Path(site).absolute()) if is_path(site) else site


def is_path(site: str) -> bool:
    """Whether a site is given by its file's path; else by its name in sites/."""
    return "/" in site or site.endswith(".toml")


def child_environment(settings: Settings) -> dict[str, str]:
    """The part of a child's environment that comes from the settings; what is not set stays unset."""
    given = {name.upper(): getattr(settings, name) for name in _PASSED_ON}
    given["LOG_FORMAT"] = log_format(settings.log_format)
    return {name: str(value) for name, value in given.items() if value is not None}
