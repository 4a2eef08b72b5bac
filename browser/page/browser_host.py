"""A browser with its driver and its stream port, for the page of one login or for those of several.

One browser for each login is the rule. Where several share one, each has a context of its own, and what belongs to one
login's page ends with it: closing the page closes its contexts alone. The browser's death is everybody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from playwright.async_api import Browser, BrowserContext, BrowserType, Error

from browser.capture.stream_port import StreamPort
from browser.capture.stream_receiver import StreamReceiver
from browser.errors import BrowserLost
from browser.process.browser_process import BrowserProcess
from browser.process.driver import Driver
from browser.process.loss import Loss, LossNotice
from browser.process.own_proxy import OwnProxy
from browser.settings import BrowserSettings, EngineName
from browser.timeouts import leave_after
from contract.claim_deadline import NO_FENCE, ClaimDeadline
from contract.processes import ProcessIdentity

log = structlog.get_logger("browser")

CLOSE_CONTEXT_TIMEOUT_S = 8.0
"""On an idle machine a context is closed in 0.1 s, also where its page's script never ends; a busy one takes its time.

Whoever kills a child does not wait that long: the coordinator kills the host after two seconds.
"""


class BrowserHost:
    """Starts browser and stream port once, for whichever of its shares is the first, and ends both.

    `shared` says that several pages use it. Else it ends with its one page.
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        engine: EngineName,
        headless: bool,
        stream_port: int,
        run_dir: Path,
        settings: BrowserSettings,
        own_proxy: OwnProxy | None = None,
        shared: bool = False,
        claim: ClaimDeadline = NO_FENCE,
        driver: Driver | None = None,
    ) -> None:
        """`own_proxy` is the only way out to the network, for all pages; `driver` is one that has been begun with.

        When `claim` is over, no page sends a prompt or saves a session any more; who ends the browser then is
        `claim_watch`.
        """
        self.engine = engine
        self.port = stream_port
        self.run_dir = run_dir
        self.own_proxy = own_proxy
        self.shared = shared
        self.claim = claim
        self.stream_port = StreamPort(stream_port)
        self.process = BrowserProcess(
            engine=engine,
            headless=headless,
            run_dir=run_dir,
            settings=settings,
            on_lost=self._lost,
            own_proxy=own_proxy,
            stream_port=stream_port,
            driver=driver,
        )
        self._shares: list[BrowserShare] = []
        self._starting: asyncio.Task[Browser] | None = None
        self._closing: asyncio.Task[None] | None = None

    def share(self, on_lost: Callable[[], object]) -> BrowserShare:
        """Return a page's share. `on_lost` is called once, when the browser is lost to it before it was closed."""
        share = BrowserShare(self, on_lost)
        self._shares.append(share)
        return share

    def forget(self, share: BrowserShare) -> None:
        """Tell it of a loss no more."""
        with suppress(ValueError):
            self._shares.remove(share)

    def _lost(self) -> None:
        for share in list(self._shares):
            share.lose(self.process.lost or "browser_lost")

    async def start(self) -> Browser:
        """Start both, or wait until they are up. Raises StreamPortTaken, EngineMissing, TrustError, BrowserLost."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="browser-start")
        return await asyncio.shield(self._starting)

    async def _start(self) -> Browser:
        await self.stream_port.start()
        browser = await self.process.start()
        await self.stream_port.serving()
        return browser

    async def close(self) -> None:
        """End both, in 5 seconds at most, by SIGKILL if need be. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="browser-close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._starting and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait({self._starting})
        await self.process.close()
        await self.stream_port.stop()


class BrowserShare:
    """One page's part of a browser: its contexts, its receiver at the stream port, and the news of its loss."""

    def __init__(self, host: BrowserHost, on_lost: Callable[[], object]) -> None:
        self.host = host
        self._on_lost = on_lost
        self._browser: Browser | None = None
        self._contexts: dict[BrowserContext, asyncio.Event] = {}
        """Those that are open, each with what is set when it is closed."""
        self._opening: set[asyncio.Task[BrowserContext]] = set()
        self._is_closed = False
        self._receivers: list[StreamReceiver] = []
        self._notice = LossNotice()

    @property
    def browser_type(self) -> BrowserType:
        """Which browser it is, as Playwright has it. Only once it is up."""
        return self._started.browser_type

    @property
    def identity(self) -> ProcessIdentity:
        """The browser's process, which leads a group of its own."""
        return self.host.process.identity

    @property
    def lost(self) -> Loss | None:
        """What of it is lost to this page; None as long as it has all."""
        return self.host.process.lost or self._notice.loss

    def receive(self, receiver: StreamReceiver) -> None:
        """Let this page's hooks connect to the stream port."""
        self._receivers.append(receiver)
        self.host.stream_port.add(receiver)

    async def start(self) -> None:
        """Start the browser, or wait until it is up. Raises StreamPortTaken, EngineMissing, TrustError, BrowserLost."""
        self._browser = await self.host.start()

    async def new_context(self, **options: Any) -> BrowserContext:
        """Open a context, which ends with this share. Takes the options of Playwright's `Browser.new_context`.

        Raises BrowserLost once the share is closed.
        """
        if self._is_closed:
            raise BrowserLost("the page is being closed")
        # Whatever becomes of the caller: the browser opens it, and it must be known to be closed.
        opening = asyncio.create_task(self._open(options), name="context-open")
        self._opening.add(opening)
        opening.add_done_callback(self._opened)
        return await asyncio.shield(opening)

    def _opened(self, opening: asyncio.Task[BrowserContext]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled():
            opening.exception()  # otherwise the event loop logs that nobody retrieved it

    async def _open(self, options: dict[str, Any]) -> BrowserContext:
        context = await self._started.new_context(**options)
        closed = self._contexts[context] = asyncio.Event()

        def note_closed(_: BrowserContext) -> None:
            del self._contexts[context]
            closed.set()

        context.once("close", note_closed)
        return context

    def lose(self, loss: Loss) -> None:
        """Take note that the browser or its driver is lost to this page."""
        if self._notice.give(loss):
            self._on_lost()

    def give_up(self) -> None:
        """Count the browser as lost to this page, though it runs: the page lost what only a new start can get back."""
        if not self.host.shared:
            self.host.process.give_up()
        elif not self.lost:
            log.error("browser_lost", others_go_on=True)
            self.lose("browser_lost")

    async def wait_lost(self) -> Loss:
        """Return as soon as the browser or its driver is lost to this page, with which of the two."""
        return await self._notice.wait()

    async def is_lost_soon(self) -> bool:
        """Return whether it is lost, or is found to be within 0.5 s: see `LossNotice.comes_soon`."""
        # A share that was made after the loss was not told of it.
        return await self._notice.comes_soon() or self.lost is not None

    async def close(self) -> None:
        """Close this page's contexts, or the browser if it is this page's alone, in about 5 seconds at most.

        A context that cannot be closed ends the browser: nobody may take a login for free whose page goes on.
        """
        self.host.forget(self)
        self._is_closed = True
        if not self.host.shared:
            await self.host.close()
        elif not self.host.process.lost:
            if self._opening:
                await asyncio.wait(self._opening, timeout=CLOSE_CONTEXT_TIMEOUT_S)
            await asyncio.gather(*(_close(context, closed) for context, closed in tuple(self._contexts.items())))
            if self._contexts or self._opening:
                log.error("context_not_closed")
                self.host.process.give_up()
                await self.host.close()
        for receiver in self._receivers:
            self.host.stream_port.remove(receiver)
        self._receivers.clear()

    @property
    def _started(self) -> Browser:
        if self._browser is None:
            raise RuntimeError("the browser is not up")
        return self._browser


async def _close(context: BrowserContext, closed: asyncio.Event) -> None:
    """Close a context, and wait for its end, for CLOSE_CONTEXT_TIMEOUT_S seconds at most."""

    async def close() -> None:
        await context.close()  # returns at once where somebody else has begun with it
        await closed.wait()

    with suppress(Error, TimeoutError):
        await leave_after(CLOSE_CONTEXT_TIMEOUT_S, close(), "context-close")
