"""One child's HTTP face: OpenAI's routes and health, on top of one chat page."""

import contract.structlog_without_rich  # noqa: F401
