"""The coordinator's part of the session store: it grants each start its login's session, and tells what is wrong.

`contract.sessions` has the files and who may write them; children write by themselves. `mirror` copies what they wrote
to a bucket and back, where SESSION_S3_PREFIX is set.
"""

from coordinator.sessions.sessions import Sessions

__all__ = ["Sessions"]
