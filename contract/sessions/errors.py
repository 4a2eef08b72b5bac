"""What can be wrong with the session store, named by condition."""

from __future__ import annotations

from contract.errors import BadProfile, TabfleetError


class BadSession(BadProfile):
    """A saved session cannot be used, and its file is left alone; `reason` completes "the saved session of ann ..."."""


class NotGranted(TabfleetError):
    """This start must not write the session: a newer one has been granted it, none could be, or its claim is over."""


class SessionKeyError(TabfleetError):
    """The file of SESSION_KEY_FILE cannot be used; holds nothing of its content and no path."""
