"""Logging: stable event names with fields, one line each, on stderr.

Both programs import this first: it loads structlog without rich and greenlet. Where rich is installed structlog loads
it for tracebacks of its own, which are never printed here: a third of what structlog takes to load, and 6 MB, in every
child. With greenlet it keeps a context that is not used here.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Final, TextIO

from contract.output import output

_hidden = {name: sys.modules.get(name) for name in ("rich", "greenlet")}
for _name in _hidden:
    sys.modules[_name] = None  # type: ignore[assignment]  # as the documentation of `import` has it: it is not found
try:
    import structlog
    from structlog.typing import EventDict, Processor
finally:
    for _name, _module in _hidden.items():
        del sys.modules[_name]
        if _module is not None:
            sys.modules[_name] = _module

# At info level these say what our own events say better.
_QUIET: Final = ("asyncio", "uvicorn", "uvicorn.error", "uvicorn.access", "boto3", "botocore", "urllib3", "s3transfer")


class AtMostEvery:
    """Keeps a line that would come thousands of times from being logged more often than every `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._said_at = float("-inf")

    def due(self) -> bool:
        """Return whether the line is to be logged now; then it is not due again for a while."""
        now = time.monotonic()
        if now - self._said_at < self._seconds:
            return False
        self._said_at = now
        return True


def escape_unencodable() -> None:
    """Have stdout write what its encoding lacks, such as half a surrogate pair, as an escape, as stderr does.

    Otherwise a name of a file or a text of a page would end the program that prints it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def log_format(wanted: str | None) -> str:
    """Return ``console`` or ``json``: what is wanted, else by whether stderr is a terminal."""
    return wanted or ("console" if sys.stderr.isatty() else "json")


def configure_logging(wanted_format: str | None, level: str, **fields: str) -> None:
    """Set up structlog, and the standard library's loggers through it. Every line has these fields, too."""
    if sys.stderr is None:  # the program was started with it closed
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if fields:
        # Not by context variables, which threads of their own do not inherit.
        shared.append(lambda _, __, event: {**fields, **event})
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(_formatter(shared, log_format(wanted_format), debug=number <= logging.DEBUG))
    logging.basicConfig(handlers=[handler], level=number, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes each line to where the lines of its context go."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; one that nobody reads any more is dropped."""
        with contextlib.suppress(OSError):
            stream = output()
            if stream is not None:
                stream.write(self.format(record) + self.terminator)
                stream.flush()


def _formatter(shared: list[Processor], form: str, *, debug: bool) -> logging.Formatter:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if form == "console":
        # At debug level the renderer prints the traceback, without local variables: they hold secrets.
        plain = structlog.dev.plain_traceback
        renderer: Processor = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    else:
        renderer = _json
    exceptions = structlog.processors.format_exc_info if debug else _name_exception
    if debug and form == "console":
        return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, renderer])
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, exceptions, renderer])


def _json(_: Any, __: str, event: EventDict) -> str:
    """Return one object a line, what a reader looks for first in front."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return json.dumps({**first, **event}, ensure_ascii=False, default=str)


def _name_exception(_: Any, __: str, event: EventDict) -> EventDict:
    """Replace an exception by its class and place: its text may hold what a client sent."""
    found = event.pop("exc_info", None)
    error = sys.exc_info()[1] if found is True else found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        step = error.__traceback__
        while step is not None and step.tb_next is not None:
            step = step.tb_next
        event["error"] = type(error).__name__
        event["at"] = "unknown"
        if step is not None:
            event["at"] = f"{'/'.join(step.tb_frame.f_code.co_filename.split('/')[-2:])}:{step.tb_lineno}"
    return event
