"""The parts of a cell that claims its logins, put together from the operator's settings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from contract.claim_deadline import ClaimDeadlineFile
from coordinator.claims.etcd import EtcdClaims
from coordinator.claims.keeper import RENEWALS, ClaimKeeper
from coordinator.claims.sessions import SessionHandover
from coordinator.claims.shared import SharedSettings
from coordinator.claims.store import ClaimStore
from coordinator.sessions import Sessions
from coordinator.settings import Settings, store_urls
from coordinator.supervision.supervisor import Supervisor


@dataclass(frozen=True)
class ClaimSetup:
    """What a cell is called, its store, and the times it goes by."""

    store: ClaimStore
    cell: str
    ttl_s: int
    session_place: str
    """A digest of where saved sessions go, empty where that is the store of claims."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Return what CLAIMS asks for; None without it. Raises SettingsError for files that cannot be used."""
        if settings.claims == "none":
            return None
        store = EtcdClaims(
            store_urls(settings.claims_url or ""),
            timeout_s=settings.claim_ttl_s / RENEWALS,
            prefix=settings.claims_prefix,
            ca_file=settings.claims_ca_file,
            cert_file=settings.claims_cert_file,
            key_file=settings.claims_key_file,
        )
        return cls(store, settings.own_cell or "", settings.claim_ttl_s, _session_place(settings))

    def keeper(self, supervisor: Supervisor, sessions: Sessions, deadline_file: Path, room: int) -> ClaimKeeper:
        """Return the keeper of claims for so many logins at most. Raises OSError if the file cannot be made."""
        return ClaimKeeper(
            self.store,
            supervisor,
            cell=self.cell,
            shared=SharedSettings(self.ttl_s, sessions.key_fingerprints, self.session_place),
            room=room,
            deadline_file=ClaimDeadlineFile(deadline_file),
            handover=SessionHandover(sessions),
        )


def _session_place(settings: Settings) -> str:
    if settings.session_s3_prefix is None:
        return ""
    # The address may be another one for each cell.
    place = f"{settings.auth_profile_s3_bucket}/{settings.session_s3_prefix.strip('/')}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]
