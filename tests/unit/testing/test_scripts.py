"""From answers to a script's document."""

from pathlib import Path
from typing import Any

import pytest

from lakeport.testing.workspace import script_of


@pytest.mark.parametrize(
    ("answers", "rules"),
    [
        (None, []),
        ({"hi?": "Hello."}, [{"match": r"hi\?", "reply": "Hello."}]),
        ({"a": ["one", "two"]}, [{"match": "a", "replies": ["one", "two"]}]),
        ({"a": {"status": 429}}, [{"match": "a", "status": 429}]),
        ({"rules": "are rules"}, [{"match": "rules", "reply": "are rules"}]),
        ({"rules": [{"reply": "x"}]}, [{"reply": "x"}]),
    ],
)
def test_answers_become_rules(answers: dict[str, Any] | None, rules: list[dict[str, Any]]) -> None:
    assert script_of(answers, None) == {"rules": rules}


def test_a_file_and_a_default(tmp_path: Path) -> None:
    file = tmp_path / "script.yml"
    file.write_text('rules: [{match: "a", reply: "b"}]\ndefault: "?"\n')

    assert script_of(file, None) == {"rules": [{"match": "a", "reply": "b"}], "default": "?"}
    assert script_of(str(file), "what?")["default"] == "what?"


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "script.yml"
    file.write_text("rules: [")

    with pytest.raises(ValueError, match=r"script\.yml is no YAML"):
        script_of(file, None)
