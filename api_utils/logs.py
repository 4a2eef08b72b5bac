"""Logging: stable event names with fields, on stderr; lines for a person on a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import Processor

_NOISY = ("asyncio", "uvicorn")


def configure_logging(log_format: str, level: str) -> None:
    """Set up structlog and the standard library's loggers. `log_format`: console, json, "" = by terminal."""
    console = log_format == "console" or (not log_format and sys.stderr.isatty())
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
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
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _one_line_exception,
                _renderer(console=console),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=number, force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _renderer(*, console: bool) -> Processor:
    if console:
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer(ensure_ascii=False)


def _one_line_exception(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """An exception as its class and place: its text may hold what a page or a caller sent."""
    info = event.pop("exc_info", None)
    record = event.get("_record")
    info = info or (record.exc_info if record is not None else None)
    error = info if isinstance(info, BaseException) else (info[1] if isinstance(info, tuple) else None)
    if error is not None:
        event["error"] = type(error).__name__
        event["at"] = _place(error)
    return event


def _place(error: BaseException) -> str:
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return "?"
    code = step.tb_frame.f_code
    return f"{code.co_filename.rsplit('/', 2)[-1]}:{step.tb_lineno} in {code.co_name}"
