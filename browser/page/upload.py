"""Handing a prompt's images to the page, from memory: nothing of them is written to a file."""

import base64
from collections.abc import Sequence

from playwright.async_api import FilePayload

from browser.capture import scripts
from browser.capture.findings import Refused
from browser.errors import PromptRejected
from browser.page.images import Image
from browser.page.refusals import error_of
from browser.page.tab import Look, Tab
from browser.site.schema import Upload

_GIVING = "giving the images to the page (site file: upload)"


async def hand_over(tab: Tab, images: Sequence[Image]) -> None:
    """Give the images to the page, in order, and wait until it shows that it has taken every one.

    Raises PromptRejected if it does not, PageBroken if there is nowhere to put them, or what the site's own
    words come to.
    """
    upload = tab.site.upload
    if upload is None:
        raise PromptRejected("this page takes no images; nothing was sent")
    await tab.run(upload.actions)
    files = [_file(number, image) for number, image in enumerate(images, 1)]
    given = 0
    for batch in await _batches(tab, upload, files):
        await _put(tab, upload, batch)
        given += len(batch)
        await _see_taken(tab, upload, given)


def _file(number: int, image: Image) -> FilePayload:
    # A name of our own: what a client calls a file is no business of the site's.
    return {"name": f"image-{number}.{image.suffix}", "mimeType": image.media_type, "buffer": image.data}


async def _batches(tab: Tab, upload: Upload, files: list[FilePayload]) -> list[list[FilePayload]]:
    """Return the files as the page takes them: all at once if its input does so, else one by one."""
    if upload.method == "file_input" and len(files) > 1:
        element, timeout_s = tab.page.locator(upload.selector).first, upload.timeout_s
        asking = element.evaluate("(input) => Boolean(input.multiple)", timeout=timeout_s * 1000)
        if await tab.act(asking, _GIVING, timeout_s):
            return [files]
    return [[file] for file in files]


async def _put(tab: Tab, upload: Upload, files: list[FilePayload]) -> None:
    element, timeout_s = tab.page.locator(upload.selector).first, upload.timeout_s
    if upload.method == "file_input":
        putting = element.set_input_files(files, timeout=timeout_s * 1000)
    else:
        pasted = [{**file, "buffer": base64.b64encode(file["buffer"]).decode()} for file in files]
        putting = element.evaluate(scripts.PASTE_FILES, pasted, timeout=timeout_s * 1000)
    await tab.act(putting, _GIVING, timeout_s)


async def _see_taken(tab: Tab, upload: Upload, count: int) -> None:
    error: str | None = None

    def decided(look: Look) -> bool:
        nonlocal error
        error = look.error
        return error is not None or look.attached >= count

    if not await tab.see(decided, upload.timeout_s):
        late = f"the page did not take the images within {upload.timeout_s:g} s (site file: upload.done)"
        raise PromptRejected(f"{late}; nothing was sent")
    if error is not None:
        raise error_of(tab.site, Refused(None, error), submitted=False)
