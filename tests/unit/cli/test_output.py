import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click
import pytest
import yaml

from lakeport.cli.output import Output, aligned, cell, chosen_format, dumped, printable

STRANGE = {
    "text": "a\x9b31m\x7f \ud800 größe \x1b[2J",
    "number": 123456789012345678901,
    "none": None,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Standard output is a terminal."""
    with redirect_stdout(Terminal()) as shown:
        yield shown


def test_the_flag_goes_before_the_environment() -> None:
    assert chosen_format(None, {}) == "text"
    assert chosen_format(None, {"DATABRICKS_OUTPUT_FORMAT": "JSON"}) == "json"
    assert chosen_format("yaml", {"DATABRICKS_OUTPUT_FORMAT": "json"}) == "yaml"
    with pytest.raises(click.UsageError, match="DATABRICKS_OUTPUT_FORMAT is 'csv'"):
        chosen_format(None, {"DATABRICKS_OUTPUT_FORMAT": "csv"})


def test_json_and_yaml_say_the_document_and_no_terminal_command() -> None:
    for format, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        said = dumped({**STRANGE, "text": "a\x9b31m\x7f größe \x1b[2J"}, format)  # type: ignore[arg-type]

        assert read(said) == {**STRANGE, "text": "a\x9b31m\x7f größe \x1b[2J"}
        assert not {"\x9b", "\x7f", "\x1b"} & set(said)


def test_json_says_even_half_a_character() -> None:
    said = dumped(STRANGE, "json")

    assert json.loads(said) == STRANGE
    assert said.encode()


def test_yaml_keeps_words_apart_from_values() -> None:
    document = {"country": "NO", "version": "1", "number": 1, "time": "12:30:00"}

    assert yaml.safe_load(dumped(document, "yaml")) == document


def test_a_pipe_gets_tab_separated_values_without_a_head(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output().table(("name", "text"), [("a", "two\twords\nmore"), ("b", None)])

    assert capsys.readouterr().out == "a\ttwo words more\nb\t\n"


def test_a_terminal_gets_columns_with_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    with terminal() as shown:
        Output().table(("name", "ready"), [("iris", "READY"), ("a-long-name", "NOT_READY")])

    assert shown.getvalue().splitlines() == [
        "NAME         READY",
        "iris         READY",
        "a-long-name  NOT_READY",
    ]


def test_colours_do_not_move_the_columns() -> None:
    plain = aligned([["iris", "READY", "x"], ["b", "NOT_READY", "y"]])
    coloured = aligned([["iris", "READY", "x"], ["b", "NOT_READY", "y"]], colour=True)

    assert plain == ["iris  READY      x", "b     NOT_READY  y"]
    assert coloured != plain
    assert [click.unstyle(line) for line in coloured] == plain


def test_a_terminal_obeys_nothing_that_a_server_says() -> None:
    out = Output()

    with terminal() as shown:
        out.text("\x1b[2J\x1b]0;title\x07hello\r\nthere\x08\x9b1m")
        out.table(("name",), [("\x1b[31mred\x1b[0m",)])
        out.piece("\x1b[5mblink")

    assert shown.getvalue() == "hello\nthere1m\nNAME\nred\nblink"


def test_a_pipe_gets_a_log_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    Output().text("\x1b[31mred\x1b[0m\tbar\n")

    assert capsys.readouterr().out == "red\tbar\n"


def test_errors_and_notes_leave_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Output("text").error("NOT_FOUND", "There is none.", {"status": 404})
    Output("json").error("NOT_FOUND", "There is none.", {"status": 404})
    Output("text").note("a note")
    Output("text", quiet=True).note("another")

    said = capsys.readouterr()
    text, _, rest = said.err.partition("\n")
    assert said.out == ""
    assert text == "Error: NOT_FOUND: There is none."
    assert rest.endswith("}\na note\n")
    assert json.loads(rest.removesuffix("a note\n")) == {
        "error_code": "NOT_FOUND",
        "message": "There is none.",
        "status": 404,
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (True, "true"), (0.1, "0.1"), (1e22, "1e+22"), ({"a": [1]}, '{"a": [1]}')],
)
def test_a_cell_shows_a_value_on_one_line(value: Any, shown: str) -> None:
    assert cell(value) == shown


def test_windows_line_ends_are_no_terminal_commands() -> None:
    assert printable("a\r\nb") == "a\nb"
