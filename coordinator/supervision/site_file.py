"""A site file as the fleet holds it: children are started with a copy, until another text has passed its check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass
class SiteFile:
    """One site's file. `text` is what children are started with; what is on the disk may be newer."""

    path: Path
    text: str = ""

    @property
    def site(self) -> str:
        """What the site is called in metrics, logs and `/ready`."""
        return self.path.name.removesuffix(".toml")

    @property
    def name(self) -> str:
        """The file's name, without its folder: `/ready` is for everybody."""
        return self.path.name

    def read(self) -> str:
        """Return what is on the disk now. Raises OSError, UnicodeDecodeError."""
        return self.path.read_text(encoding="utf-8-sig")
