from typing import Any

import click
import pytest
from click.testing import CliRunner

from lakeport.cli.main import lakeport
from lakeport.cli.output import Output
from lakeport.cli.query import show, table_of
from lakeport.client.answers import Answer, Chat, Embeddings, Prediction, ToolCall


@pytest.mark.parametrize(
    ("predictions", "columns", "rows"),
    [
        ([1, 2.5, "a"], ["prediction"], [["1"], ["2.5"], ["a"]]),
        ([[1, 2], [3, 4]], ["0", "1"], [[1, 2], [3, 4]]),
        ([[1, 2], [3]], ["prediction"], [["[1, 2]"], ["[3]"]]),
        ([{"a": 1, "b": 2}, {"b": 3}], ["a", "b"], [[1, 2], [None, 3]]),
        ({"a": [1, 2], "b": [3, 4]}, ["a", "b"], [[1, 3], [2, 4]]),
        ({"a": [1, 2], "b": "x"}, ["a", "b"], [[1, "x"], [2, None]]),
        ([], ["prediction"], []),
        ([[]], ["prediction"], [["[]"]]),
        ({}, [], []),
        (7, ["prediction"], [[7]]),
        ("text", ["prediction"], [["text"]]),
    ],
)
def test_predictions_of_any_form_are_a_table(
    predictions: Any, columns: list[str], rows: list[list[Any]]
) -> None:
    assert table_of(predictions) == (columns, rows)


CALL = ToolCall(id="1", name="height", arguments='{"of": "tower"}')
ANSWERS = [
    (Prediction(endpoint="e", body={}, predictions=[0, 1]), "0\n1\n"),
    (Chat(endpoint="e", body={}, text="Hello.\nYou."), "Hello.\nYou.\n"),
    (Chat(endpoint="e", body={}, tool_calls=(CALL,)), 'height\t{"of": "tower"}\n'),
    (
        Embeddings(endpoint="e", body={}, vectors=[[0.1, 2.0], [1.0, 0.0]]),
        "[0.1, 2.0]\n[1.0, 0.0]\n",
    ),
    (Answer(endpoint="e", body={"output": []}), '{\n  "output": []\n}\n'),
]


@pytest.mark.parametrize(("answer", "said"), ANSWERS)
def test_an_answer_shows_what_matters(
    answer: Answer, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show(Output(), answer)

    assert capsys.readouterr().out == said


def test_an_answer_is_the_whole_body_where_programs_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(Output("json"), Prediction(endpoint="e", body={"predictions": [1]}, predictions=[1]))

    assert capsys.readouterr().out == '{\n  "predictions": [\n    1\n  ]\n}\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "{}", "--text", "a"], "give one"),
        (["--json", "[1]"], "must be a JSON object"),
        (["--stream", "--json", '{"inputs": [1]}'], "--stream is for chats"),
        (["--stream", "--json", '{"messages": [], "name": "b", "timeout": 1}'], "name, timeout"),
        (["--text", "a", "--timeout", "3"], "not a duration"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    arguments: list[str], message: str
) -> None:
    result = CliRunner().invoke(lakeport, ["query", "iris", *arguments])

    assert result.exit_code == 2
    assert message in click.unstyle(result.stderr)
