"""One child's HTTP face: OpenAI's routes and health, on top of one chat page."""

import contract.logs  # noqa: F401 - it has to load structlog
