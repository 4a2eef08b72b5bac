"""Login profiles and API keys: fetched, checked, and kept up to date.

**Layout.** A profile is a Playwright storage_state (``cookies`` and ``origins``, both are loaded). In S3::

    s3://BUCKET/PREFIX/active/*.json   the profiles; nothing further down is read
    s3://BUCKET/PREFIX/key.txt         API keys, one a line; optional, and an empty one means an open API

Locally the profiles are ``LOCAL_PROFILE_DIR/*.json``, used in place and never modified; links are followed
inside the folder, as Kubernetes mounts Secrets. Of the key files the first that applies counts:
``AUTH_KEY_FILE_PATH``, the hydrated ``key.txt``, ``auth_profiles/key.txt``.

**Permissions.** ``s3:ListBucket`` on the bucket (it may be limited by ``s3:prefix`` to ``PREFIX/*``) and
``s3:GetObject`` on ``PREFIX/active/*`` and ``PREFIX/key.txt``; ``kms:Decrypt`` if a KMS key encrypts them.
Profiles and keys are never written to S3; `coordinator.sessions` writes, under a prefix of its own. Credentials, region
and endpoint come from the AWS chain; obstore reads, or boto3 where that has to (see `coordinator.profiles.s3_client`).

**Cache.** S3 is brought to ``AUTH_PROFILE_CACHE_DIR`` (see `coordinator.profiles.cache`), which has to be ours
alone: folders 0700, files 0600, no link on the way that anybody but us or root made. It outlives the
process: an object whose ETag and size are those of the last time is not fetched again, provided that its
file still has the digest it was stored with, and not checked again by the same checks (`CHECKS_VERSION` in
`coordinator.profiles.discover`), so a hydration that has just run makes the next one a listing.
A cache of one bucket and prefix serves no other, and is not taken away from a process that runs on it.

**What `hydrate()` guarantees.** All or nothing: it returns with `profiles_dir` and `key_file` showing exactly
what the backend holds, or raises with both as they were; a crash at any point leaves the last good set.
The two paths stay the same for ever, and what they show is switched in one step. Only profiles that may be
used are in `profiles_dir`; each of the others is named with its reason, and the rest start. It raises if not
one is left. A reload that finds no keys where there were some keeps the old ones, and says so. With
``AUTH_PROFILE_ALLOW_STALE`` the first call of a process falls back on the last set if S3 does not answer or
answers with errors of its own; a refusal (permissions, credentials, no such bucket) is never passed over.

**Adding a provider.** Write a class with the methods of `ProfileProvider`, enter it in
`coordinator.profiles.registry.PROVIDERS`, and add its name to `coordinator.settings.BackendName`. `Cache` and
`examine` serve any backend that has objects with versions.

**Commands.** ``python -m coordinator.profiles hydrate|check``; ``--help`` lists flags and exit codes.
"""

from coordinator.profiles.discover import discover_profiles
from coordinator.profiles.hydration import Hydration, Hydrator, hydrate
from coordinator.profiles.local import LocalProfileProvider
from coordinator.profiles.model import Discovery, Profile, ProfileHydrationResult, ProfileProvider, Rejected
from coordinator.profiles.registry import provider_for
from coordinator.profiles.s3 import S3ProfileProvider
from coordinator.profiles.s3_types import S3Location, S3Options

__all__ = [
    "Discovery",
    "Hydration",
    "Hydrator",
    "LocalProfileProvider",
    "Profile",
    "ProfileHydrationResult",
    "ProfileProvider",
    "Rejected",
    "S3Location",
    "S3Options",
    "S3ProfileProvider",
    "discover_profiles",
    "hydrate",
    "provider_for",
]
