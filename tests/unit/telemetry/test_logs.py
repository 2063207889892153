import io
import logging
from collections.abc import Iterator

import pytest

from lakeport.telemetry.logs import configure, redacted


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What the server's logging writes; pytest's own is put back afterwards."""
    handlers, level = logging.root.handlers[:], logging.root.level
    stream = io.StringIO()
    configure("info", stream)
    yield stream
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.getLogger("lakeport").setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def test_an_event_is_one_line_whatever_it_holds(said: io.StringIO) -> None:
    logging.getLogger("lakeport.control").info("endpoint %s is up", "a\nb\r\x1b[31m\u2028c")

    (line,) = said.getvalue().splitlines()
    moment, level, name, message = line.split(" ", 3)
    assert len(moment) == len("2026-01-31T12:00:00.123Z")
    assert (level, name) == ("INFO", "lakeport.control")
    assert message == "endpoint a\\nb\\r\\x1b[31m\\u2028c is up"


def test_a_failure_is_one_line_that_says_where(said: io.StringIO) -> None:
    try:
        try:
            raise OSError("disk\nfull")
        except OSError as error:
            raise ValueError("not saved") from error
    except ValueError:
        logging.getLogger("lakeport").exception("failed")

    (line,) = said.getvalue().splitlines()
    assert "failed | ValueError: not saved (from OSError: disk\\nfull) at " in line
    assert "test_logs.py:" in line


def test_levels_are_kept_and_others_only_warn(said: io.StringIO) -> None:
    logging.getLogger("lakeport").debug("no")
    logging.getLogger("alembic").info("no")
    logging.getLogger("uvicorn").warning("yes")

    assert said.getvalue().endswith("WARNING uvicorn yes\n")
    assert said.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdefghijklmnopq", "Authorization: Bearer [redacted]"),
        (
            "{'authorization': b'bearer abcdefghijklmnopq'}",
            "{'authorization': b'bearer [redacted]'}",
        ),
        ("Basic dG9rZW46ZGFwaTEyMw==, then", "Basic [redacted], then"),
        ("token dapi0123456789abcdef is bad", "token [redacted] is bad"),
        ("http://user:secret@host:80/path", "http://user:[redacted]@host:80/path"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("basic authentication is off", "basic authentication is off"),
        ("a bearer token is needed", "a bearer token is needed"),
    ],
)
def test_what_looks_like_a_credential_is_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_credentials_in_arguments_and_errors_are_not_shown(said: io.StringIO) -> None:
    token = "dapi" + "0" * 64
    try:
        raise ValueError(f"cannot use {token}")
    except ValueError:
        logging.getLogger("lakeport").exception("for %s", token)

    assert token not in said.getvalue()
    assert said.getvalue().count("[redacted]") == 2
