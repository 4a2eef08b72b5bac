"""What the child's routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from api_utils.request_queue import Desk
from api_utils.settings import ChildSettings
from browser.page.chat_page import ChatPage
from contract.keys import FollowedKeys


@dataclass(frozen=True)
class ChildState:
    """One child's parts, put into the application's state by `make_app`."""

    page: ChatPage
    desk: Desk
    settings: ChildSettings
    keys: FollowedKeys
    site: str
    engine: str

    @staticmethod
    def of(request: Request) -> ChildState:
        """The state of the application that serves this request."""
        return cast("ChildState", request.app.state.child)
