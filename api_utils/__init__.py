"""One child's HTTP face: OpenAI's routes and health, on top of one chat page."""

import api_utils.quick_start  # noqa: F401
