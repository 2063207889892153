from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lakeport.cli.inputs import duration, read_json, read_object, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("90s", 90.0),
        ("20m", 1200.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("500ms", 0.5),
        ("2m3s4ms", 123.004),
        ("250us", 0.00025),
    ],
)
def test_durations_are_read_as_go_writes_them(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "20", "m", "20 m", "-5s", "20x", "1e3s", "5s!", "infs"])
def test_other_durations_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 90s"):
        seconds(text)


def test_an_options_duration_is_refused_by_the_options_name() -> None:
    @click.command()
    @click.option("--timeout", callback=duration)
    def wait(*, timeout: float) -> None:
        click.echo(timeout)

    assert CliRunner().invoke(wait, ["--timeout", "2m"]).output == "120.0\n"
    refused = CliRunner().invoke(wait, ["--timeout", "soon"])
    assert refused.exit_code == 2
    assert "--timeout" in refused.output
    assert "'soon' is not a duration" in refused.output


def test_json_comes_inline_from_a_file_and_from_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text('\ufeff{"name": "größe"}', "utf-8")

    @click.command()
    @click.argument("given")
    def read(given: str) -> None:
        click.echo(str(read_json(given)))

    ask = CliRunner().invoke
    assert ask(read, ['{"a": 123456789012345678901}']).output == "{'a': 123456789012345678901}\n"
    assert ask(read, [f"@{file}"]).output == "{'name': 'größe'}\n"
    assert ask(read, ["-"], input="[1]").output == "[1]\n"


def test_what_is_wrong_with_json_is_said_with_its_place(tmp_path: Path) -> None:
    broken, binary = tmp_path / "broken.json", tmp_path / "binary.json"
    broken.write_text('{"a": 1,\n "b" 2}')
    binary.write_bytes(b"\xff\xfe\x00")

    for given, message in (
        (f"@{broken}", "broken.json.* line 2, column 6"),
        (f"@{binary}", "binary.json is not UTF-8"),
        (f"@{tmp_path / 'none.json'}", "none.json: No such file"),
        ("{", "--json is no JSON: .* line 1, column 2"),
        ("", "It is empty"),
        ("[" * 100_000, "nested too deeply"),
    ):
        with pytest.raises(click.UsageError, match=message):
            read_json(given)
    with pytest.raises(click.UsageError, match=r"must be a JSON object.* not list"):
        read_object("[]")
