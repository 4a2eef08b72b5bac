"""Give a prompt's images to the page, from memory: nothing of them is written to a file."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from playwright.async_api import FilePayload

from browser.capture import scripts
from browser.capture.findings import Refused
from browser.errors import PromptRejected
from browser.page.images import Image
from browser.page.locate import locate
from browser.page.refusals import error_of
from browser.page.tab import PageSnapshot, Tab

_GIVING = "giving the images to the page (site file: upload)"


async def upload_images(tab: Tab, images: Sequence[Image]) -> None:
    """Give the images to the page, in order, and wait until it shows that it has taken every one.

    Raises PromptRejected if it does not, PageBroken if there is nowhere to put them, or the error that the site's
    own message amounts to.
    """
    upload = tab.site.upload
    if upload is None:
        raise PromptRejected("this page takes no images; nothing was sent", for_good=True)
    await tab.run(upload.actions)
    element, timeout_s = locate(tab.page, upload.selector), upload.timeout_s
    files: list[FilePayload] = [
        # A name of our own: what a client calls a file does not concern the site.
        {"name": f"image-{number}.{image.suffix}", "mimeType": image.media_type, "buffer": image.data}
        for number, image in enumerate(images, 1)
    ]

    # All at once if the page's input takes several, otherwise one by one.
    batches = [[file] for file in files]
    if upload.method == "file_input" and len(files) > 1:
        asking = element.evaluate("(input) => Boolean(input.multiple)", timeout=timeout_s * 1000)
        if await tab.perform(asking, _GIVING, timeout_s):
            batches = [files]

    given = 0
    for batch in batches:
        if upload.method == "file_input":
            giving = element.set_input_files(batch, timeout=timeout_s * 1000)
        else:
            pasted = [{**file, "buffer": base64.b64encode(file["buffer"]).decode()} for file in batch]
            giving = element.evaluate(scripts.PASTE_FILES, pasted, timeout=timeout_s * 1000)
        await tab.perform(giving, _GIVING, timeout_s)
        given += len(batch)
        await _wait_taken(tab, given, timeout_s)


async def _wait_taken(tab: Tab, count: int, timeout_s: float) -> None:
    """Wait until the page shows so many images. Raises PromptRejected, or what the site's own message amounts to."""
    error: str | None = None

    def decided(seen: PageSnapshot) -> bool:
        nonlocal error
        error = seen.error
        return error is not None or seen.attached >= count

    if not await tab.wait_until(decided, timeout_s):
        late = f"the page did not take the images within {timeout_s:g} s (site file: upload.done)"
        raise PromptRejected(f"{late}; nothing was sent")
    if error is not None:
        raise error_of(tab.site, Refused(None, error), submitted=False)
