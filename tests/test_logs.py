"""The log: one line an event, whoever wrote it, and nothing in it that nobody said."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from streamdrift import logs


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_everything_is_a_line_of_json_with_time_and_level() -> None:
    stream = io.StringIO()
    logs.set_up("info", "auto", stream)
    structlog.get_logger().info("commit", offsets=3, key=b"fraud", seen={"a"})
    logging.getLogger("library").warning("old %s", "way")
    written = lines(stream)
    assert [(line["event"], line["level"]) for line in written] == [("commit", "info"), ("old way", "warning")]
    assert (written[0]["offsets"], written[0]["key"], written[1]["logger"]) == (3, "fraud", "library")
    assert all(line["timestamp"].endswith("Z") for line in written)


def test_warnings_of_libraries_are_log_lines() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.set_up("info", "json", stream)
        warnings.warn("careful", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "careful" in lines(stream)[0]["event"]


def test_lower_levels_are_left_out() -> None:
    stream = io.StringIO()
    logs.set_up("warning", "json", stream)
    structlog.get_logger().info("small")
    structlog.get_logger().error("large")
    assert [line["event"] for line in lines(stream)] == ["large"]


def test_a_terminal_is_shown_text() -> None:
    stream = Terminal()
    logs.set_up("info", "auto", stream)
    structlog.get_logger().info("commit", offsets=3)
    assert "commit" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.getvalue())


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables(form: str) -> None:
    stream = io.StringIO()
    logs.set_up("info", form, stream)
    password = "hunter" + "2"
    try:
        int(password[:6])
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError: invalid literal" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_setting_up_again_replaces_what_was() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.set_up("info", "json", first)
    logs.set_up("info", "json", second)
    structlog.get_logger().info("once")
    assert (first.getvalue(), len(lines(second))) == ("", 1)
