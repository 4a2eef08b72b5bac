"""What the fleet file says of one login."""

from __future__ import annotations

from dataclasses import dataclass, field

from contract.surroundings import Surroundings


@dataclass(frozen=True)
class Login:
    """What one login has of its own; the defaults are those of a fleet without a fleet file.

    `site` is a name in sites/ or an absolute path, None for CHAT_SITE; `site_name` is what that site is called, ""
    without a fleet file. `models` are those that it serves, None for all of its site's. `weight` is its share of
    requests among the logins that serve the same model.
    """

    site: str | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)
    models: tuple[str, ...] | None = None
    weight: int = 1
    site_name: str = ""

    def serves(self, models: tuple[str, ...]) -> tuple[str, ...]:
        """Return which of its page's models it serves."""
        return models if self.models is None else tuple(model for model in models if model in self.models)

    @property
    def has_own_browser(self) -> bool:
        """Whether its browser is its alone: one with a proxy of its own knows no other way out, whatever fails."""
        return self.surroundings.proxy is not None

    def starts_like(self, other: Login) -> bool:
        """Return whether a browser that was started for one of the two is right for the other one, too."""
        return (self.site, self.surroundings) == (other.site, other.surroundings)


PLAIN = Login()
"""The login of a fleet without a fleet file."""
