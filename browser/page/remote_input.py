"""What a person far away does with a browser, as it comes over HTTP and as the page gets it.

Nothing of it is kept, logged or put into an error: it may be a password.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from playwright.async_api import Page
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from contract.errors import TabfleetError

TYPED_AT_MOST = 200
"""A text up to so many characters is typed key by key: fields for one-time codes take one digit each."""

Pixel = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]
Distance = Annotated[float, Field(ge=-10_000, le=10_000, allow_inf_nan=False)]
KeyName = Literal[
    "Enter", "Tab", "Backspace", "Delete", "Escape", "Home", "End", "PageUp", "PageDown",
    "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown",
    "a", "x", "y", "z",
]  # fmt: skip
"""Keys that write nothing; the letters are for shortcuts: select all, cut, redo, undo."""


class BadInput(TabfleetError):
    """What came is no input; the message holds nothing of it."""


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Move(_Input):
    """The pointer is elsewhere, in CSS pixels of the page."""

    kind: Literal["move"]
    x: Pixel
    y: Pixel

    async def do(self, page: Page) -> None:
        """Do it. Raises Playwright's Error."""
        await page.mouse.move(self.x, self.y)


class Button(_Input):
    """A button of the mouse goes down or up; `count` is which of a row of clicks it is."""

    kind: Literal["down", "up"]
    x: Pixel
    y: Pixel
    button: Literal["left", "middle", "right"] = "left"
    count: Annotated[int, Field(ge=1, le=3)] = 1

    async def do(self, page: Page) -> None:
        """Do it. Raises Playwright's Error."""
        await page.mouse.move(self.x, self.y)
        act = page.mouse.down if self.kind == "down" else page.mouse.up
        await act(button=self.button, click_count=self.count)


class Wheel(_Input):
    """The page is scrolled by this many CSS pixels where the pointer is."""

    kind: Literal["wheel"]
    x: Pixel
    y: Pixel
    dx: Distance
    dy: Distance

    async def do(self, page: Page) -> None:
        """Do it. Raises Playwright's Error."""
        await page.mouse.move(self.x, self.y)
        await page.mouse.wheel(self.dx, self.dy)


class Key(_Input):
    """A key that writes nothing is pressed."""

    kind: Literal["key"]
    key: KeyName
    with_: Annotated[list[Literal["Shift", "Control", "Alt", "Meta"]], Field(alias="with", max_length=4)] = []

    async def do(self, page: Page) -> None:
        """Do it. Raises Playwright's Error."""
        await page.keyboard.press("+".join([*self.with_, self.key]), delay=0)


class Text(_Input):
    """A text is written, from a keyboard, an input method or the clipboard."""

    kind: Literal["text"]
    text: Annotated[str, Field(min_length=1, max_length=16_000)]

    async def do(self, page: Page) -> None:
        """Do it. Raises Playwright's Error."""
        # A line break that is typed is the key Enter, which would send a form off.
        if len(self.text) <= TYPED_AT_MOST and self.text.isprintable():
            await page.keyboard.type(self.text)
        else:
            await page.keyboard.insert_text(self.text)


class Size(_Input):
    """The person's screen has this much room, in CSS pixels."""

    kind: Literal["size"]
    width: Annotated[int, Field(ge=280, le=1920)]
    height: Annotated[int, Field(ge=280, le=1920)]

    async def do(self, page: Page) -> None:
        """Do it. Raises Playwright's Error."""
        await page.set_viewport_size({"width": self.width, "height": self.height})


class Back(_Input):
    """The page before is shown again."""

    kind: Literal["back"]

    async def do(self, page: Page) -> None:
        """Do it. Raises Playwright's Error."""
        await page.go_back(wait_until="commit")


Input = Move | Button | Wheel | Key | Text | Size | Back
_MANY: Final[TypeAdapter[list[Input]]] = TypeAdapter(
    Annotated[list[Annotated[Input, Field(discriminator="kind")]], Field(max_length=500)]
)


def parse_input(body: bytes) -> list[Input]:
    """Return what a JSON array tells. Raises BadInput, which holds nothing of it."""
    try:
        return _MANY.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in _NAMES)
        raise BadInput(f"the input is not as expected at {place or 'its start'}") from None


_NAMES: Final = frozenset(
    name for kind in (Move, Button, Wheel, Key, Text, Size, Back) for name in (*kind.model_fields, "with")
)
"""Names of ours that a message may hold; other keys are the sender's."""
