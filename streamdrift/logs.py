"""The service's own log: one line an event on stderr, JSON for machines and colours for a terminal.

Everything goes through one handler, also what libraries write with ``logging`` and what ``warnings`` says, so that
a line always has a time, a level, and its details as fields. Tracebacks never show local variables: some of them
hold passwords.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any, Final, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

_SHARED: Final[Sequence[Processor]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    structlog.processors.StackInfoRenderer(),
)


def set_up(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Route all logging of the process to ``stream`` (stderr). Later calls replace earlier ones.

    ``level`` is the lowest that is written: debug, info, warning, error or critical. ``form`` is ``json``,
    ``console``, or ``auto`` for ``console`` where the stream is a terminal and ``json`` elsewhere.
    """
    stream = stream or sys.stderr
    console = form == "console" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                ProcessorFormatter.remove_processors_meta,
                *_renderers(console=console, colours=stream.isatty()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_SHARED, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _renderers(*, console: bool, colours: bool) -> list[Processor]:
    if console:
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain, pad_event_to=0)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=_text)]


def _text(value: Any) -> str:  # noqa: ANN401 — whatever a log line was given
    """Values that JSON does not know: bytes as text, anything else as it prints."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
