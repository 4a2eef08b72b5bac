"""Which logins are this coordinator's, where several use one set of profiles: a fixed share, without a store."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

MOST_SHARDS: Final = 1000
SHARD_WORDS: Final = f"i/n with 0 <= i < n <= {MOST_SHARDS}, or hostname/n"
_SHARD: Final = re.compile(r"(hostname|[0-9]{1,4})/([0-9]{1,4})", re.ASCII)
_ORDINAL: Final = re.compile(r"-([0-9]{1,4})\Z", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One of `count` shares of all logins; `index` counts from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str, host: str) -> Self:
        """Return the share that `i/n` names, or `hostname/n` for a host called NAME-i, such as a pod of a StatefulSet.

        Only the first part of a host name with dots counts. Raises ValueError.
        """
        match = _SHARD.fullmatch(text)
        if match is None or not 1 <= int(match[2]) <= MOST_SHARDS:
            raise ValueError(f"takes {SHARD_WORDS}")
        count = int(match[2])
        if match[1] != "hostname":
            index = int(match[1])
            if index >= count:
                raise ValueError(f"takes {SHARD_WORDS}")
            return cls(index, count)
        ordinal = _ORDINAL.search(host.partition(".")[0])
        if ordinal is None:
            raise ValueError(f"the host's name, {host!r}, does not end in a hyphen and a number")
        if int(ordinal[1]) >= count:
            raise ValueError(f"the host's name, {host!r}, ends in {ordinal[1]}, and the shares are 0 to {count - 1}")
        return cls(int(ordinal[1]), count)

    def holds(self, name: str) -> bool:
        """Return whether the login of this name is in this share.

        By nothing but the name: it stays the same when a site rotates the login's cookies and when the profile is
        saved anew, and whatever else is in the set. So no name is ever in two shares of the same count.
        """
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest) % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
