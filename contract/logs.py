"""Logging: stable event names with fields, one line each, on stderr. A leaf that both programs share."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

# These speak of what our own events say better, at info level.
_QUIET: Final = ("asyncio", "uvicorn", "uvicorn.error", "uvicorn.access", "boto3", "botocore", "urllib3", "s3transfer")


def log_format(wanted: str | None) -> str:
    """``console`` or ``json``: what is wanted, else by whether stderr is a terminal."""
    return wanted or ("console" if sys.stderr.isatty() else "json")


def configure_logging(wanted_format: str | None, level: str) -> None:
    """Set up structlog, and the standard library's loggers through it."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(shared, log_format(wanted_format), debug=number <= logging.DEBUG))
    logging.basicConfig(handlers=[handler], level=number, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


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
    """One object a line, what a reader looks for first in front."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return json.dumps({**first, **event}, ensure_ascii=False, default=str)


def _name_exception(_: Any, __: str, event: EventDict) -> EventDict:
    """An exception as its class and place; its text may hold what a client sent."""
    found = event.pop("exc_info", None)
    error = sys.exc_info()[1] if found is True else found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["at"] = _place(error)
    return event


def _place(error: BaseException) -> str:
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return "unknown"
    code = step.tb_frame.f_code
    return f"{'/'.join(code.co_filename.split('/')[-2:])}:{step.tb_lineno}"
