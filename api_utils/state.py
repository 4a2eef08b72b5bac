"""What the child's routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from api_utils.request_queue import RequestQueue
from api_utils.settings import ChildSettings
from browser.page.chat_page import ChatPage
from contract.child_api import Readiness, UnreadyReason
from contract.keys import FollowedKeys


@dataclass(frozen=True)
class ChildState:
    """One child's parts, put into the application's state by `make_app`."""

    page: ChatPage
    queue: RequestQueue
    settings: ChildSettings
    keys: FollowedKeys
    site: str
    engine: str

    @staticmethod
    def of(request: Request) -> ChildState:
        """Return the state of the application that serves this request."""
        return cast("ChildState", request.app.state.child)

    def readiness(self) -> Readiness:
        """Return what `/ready` says now."""
        status = self.page.status
        return Readiness(
            None if status.ready else UnreadyReason(status.reason or UnreadyReason.STARTING),
            detail=status.detail,
            instance_id=self.settings.tabfleet_instance_id,
            generation=self.settings.tabfleet_generation,
            busy=self.queue.busy or self.page.busy,
            models=self.page.models,
            site=self.site,
            engine=self.engine,
            capture=status.capture,
            login_expires_at=status.login_expires_at,
            rest_s=status.rest_s,
        )
