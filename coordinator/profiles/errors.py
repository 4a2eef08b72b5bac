"""What can go wrong between a backend and the coordinator, named by condition."""

from __future__ import annotations

from contract.errors import TabfleetError
from coordinator.errors import ProfileBackendError


class S3Refused(ProfileBackendError):
    """S3 answers, but not with what was asked for: bucket, credentials or permissions are wrong."""


class S3Unreachable(ProfileBackendError):
    """S3 does not answer, or only with errors of its own; it may do so later."""


class CacheError(ProfileBackendError):
    """The cache folder cannot be used: it is not ours, it is full, or somebody else is at work in it."""


class ObjectChanged(TabfleetError):
    """An object is not, or no longer, the one that was to be replaced."""


class ObjectGone(TabfleetError):
    """An object was deleted after it was listed."""
