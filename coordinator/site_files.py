"""Site files as the coordinator sees them: where they are, and which models they name. The child checks the rest."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from coordinator.errors import SiteMissing

SITES: Final = Path(__file__).resolve().parents[1] / "sites"


def known_sites() -> str:
    """Return the names in sites/, for people."""
    return ", ".join(sorted(path.stem for path in SITES.glob("*.toml"))) or "none"


def is_path(site: str) -> bool:
    """Return whether a site is given by a path, rather than by its name in sites/."""
    return "/" in site or site.endswith(".toml")


def site_name(site: str) -> str:
    """Return the name by which a site is shown: that of its file."""
    return Path(site).name.removesuffix(".toml")


def site_path(site: str) -> Path:
    """Return where the file of a site is, given its name in sites/ or an absolute path."""
    return Path(site) if Path(site).is_absolute() else SITES / f"{site}.toml"


def names_of(model: str, site: str) -> tuple[str, str]:
    """Return the names by which a model may be asked: its own, and the one that means this site's alone."""
    return model, f"{site_name(site)}/{model}"


def models_of(site: str) -> tuple[str, ...]:
    """Return the models of a site file, none where they cannot be told. Raises SiteMissing if it cannot be used at all.

    `site` is a name in sites/, or an absolute path. The error's message does not name it.
    """
    path = site_path(site)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SiteMissing(f"there is no such site file; known are {known_sites()}") from None
    except OSError as error:
        raise SiteMissing(f"the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SiteMissing("the file is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise SiteMissing(f"the file is not valid TOML: {error}") from None
    models = data.get("models")
    named = [model.get("name") for model in models if isinstance(model, dict)] if isinstance(models, list) else []
    return tuple(name for name in named if isinstance(name, str))
