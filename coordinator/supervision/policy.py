"""The numbers that supervision goes by."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from coordinator.settings import Settings
from coordinator.supervision.lifecycle import STEADY_AFTER_S


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) or 1


@dataclass(frozen=True)
class Policy:
    """Limits and times of supervision, in seconds and bytes. A `max_children` of 0 means one per profile.

    `drain_timeout_s` + `term_grace_s` + `reap_timeout_s` is the longest orderly stop, 40 s at the
    defaults: it fits the stop grace of 45 s that image and manifests set.
    """

    max_children: int = 0
    parallel_starts: int = field(default_factory=usable_cores)
    start_permit_s: float = 10.0  # how long a start that hangs may keep its permit from the next one
    start_timeout_s: float = 60.0
    start_probe_interval_s: float = 0.1
    probe_interval_s: float = 1.0
    unhealthy_after: int = 3
    healthy_after: int = 1
    unhealthy_timeout_s: float = 30.0
    backoff_base_s: float = 0.5
    backoff_max_s: float = 60.0
    crash_loop_after: int = 8
    crash_loop_retry_s: float = 600.0  # give or take a tenth, so that a fleet does not come back as one
    rest_default_s: float = 300.0
    rest_max_s: float = 3600.0
    suspects_alone: int = 0  # how many suspects may be on trial alone at a time; 0 for no limit
    suspect_trial_s: float = STEADY_AFTER_S
    drain_timeout_s: float = 30.0
    term_grace_s: float = 7.0
    reap_timeout_s: float = 3.0
    exit_notice_s: float = 0.5  # how long a broken connection may be ahead of the news of the exit
    memory_limit_bytes: int = 0
    memory_check_s: float = 10.0
    expiry_warning_days: float = 3.0
    expiry_check_s: float = 10.0

    @classmethod
    def from_settings(cls, settings: Settings) -> Policy:
        """Return the operator's numbers; those that are no settings keep their defaults."""
        return cls(
            max_children=settings.max_children,
            start_timeout_s=settings.start_timeout_s,
            probe_interval_s=settings.probe_interval_s,
            unhealthy_after=settings.unhealthy_after,
            healthy_after=settings.healthy_after,
            unhealthy_timeout_s=settings.unhealthy_timeout_s,
            backoff_max_s=settings.backoff_max_s,
            # As many as can be suspects by the fault of one login.
            suspects_alone=settings.logins_per_browser if settings.logins_per_browser > 1 else 0,
            drain_timeout_s=settings.drain_timeout_s,
            memory_limit_bytes=settings.child_memory_limit_mb * 1_000_000,
            expiry_warning_days=settings.expiry_warning_days,
        )
