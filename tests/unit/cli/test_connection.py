import errno
import json
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner, Result

from lakeport.cli.connection import CommandFailed, Session, connected, early, shared
from lakeport.cli.output import Output
from lakeport.cli.retrying import Telling
from lakeport.client import errors

AWAY = ("Refused", "Broke")
CASES = [
    (errors.NotFound("No.", status=404, error_code="RESOURCE_DOES_NOT_EXIST"), 3),
    (errors.Unauthenticated("No.", status=401), 4),
    (errors.PermissionDenied("No.", status=403, error_code="PERMISSION_DENIED"), 4),
    (errors.ConfigError("No host: set DATABRICKS_HOST."), 4),
    (errors.TimedOut("Too late."), 5),
    (errors.BadRequest("No.", status=400, error_code="INVALID_PARAMETER_VALUE"), 1),
    (errors.InvalidInput("No.", problems=[errors.Problem("age", 3, "no number")]), 1),
    (errors.RateLimited("No.", status=429, retry_after=2), 1),
    (errors.NotReady("No.", status=503), 1),
    (errors.ConnectionFailed("Refused.", sent=False), 1),
    (errors.BadAnswer("No JSON."), 1),
    (CommandFailed("UPDATE_FAILED", "It failed.", more={"entities": []}), 1),
]
CODES = [
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "CONFIG_ERROR",
    "TIMED_OUT",
    "INVALID_PARAMETER_VALUE",
    "INVALID_PARAMETER_VALUE",
    "RATE_LIMITED",
    "NOT_READY",
    "CONNECTION_FAILED",
    "BAD_ANSWER",
    "UPDATE_FAILED",
]


def run(error: BaseException | None, *arguments: str, env: dict[str, str] | None = None) -> Result:
    @click.group()
    @early
    def root() -> None: ...

    @root.group()
    @shared
    def group() -> None: ...

    @group.command()
    @connected
    def work(session: Session) -> None:
        if error is not None:
            raise error
        session.out.show({"format": session.out.format, "quiet": session.out.quiet})

    return CliRunner(env={"DATABRICKS_OUTPUT_FORMAT": None, **(env or {})}).invoke(
        root, arguments or ["group", "work"]
    )


@pytest.mark.parametrize(
    ("error", "status", "code"), [(*case, code) for case, code in zip(CASES, CODES, strict=True)]
)
def test_an_error_is_one_line_and_an_exit_code(error: Exception, status: int, code: str) -> None:
    result = run(error)

    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr == f"Error: {code}: {error.message}\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("error", "status"), CASES)
def test_an_error_is_a_document_where_programs_read(error: Exception, status: int) -> None:
    result = run(error, "group", "work", "-o", "json")

    document = json.loads(result.stderr)
    assert result.exit_code == status
    assert document["message"] == error.message  # type: ignore[attr-defined]
    assert document["error_code"]


def test_a_full_disk_is_no_traceback() -> None:
    result = run(OSError(errno.ENOSPC, "No space left on device"))

    assert (result.exit_code, result.stderr) == (1, "Error: IO_ERROR: No space left on device\n")


@pytest.mark.parametrize("reply", ["<html>Welcome</html>", [], None, 3])
def test_another_servers_answer_is_refused(reply: object) -> None:
    class Elsewhere:
        host = "https://www.example.com"

        def request(self, *_: object) -> object:
            return reply

    session = Session(Output(), None, None)
    session._client = cast(Any, Elsewhere())

    with pytest.raises(errors.BadAnswer, match=r"https://www\.example\.com a Databricks workspace"):
        session.ask("GET", "/api/2.0/serving-endpoints")


def test_the_first_try_again_is_told_and_the_rule_is_the_usual_one() -> None:
    said: list[str] = []
    rule = Telling(note=said.append)
    away, broke = (errors.ConnectionFailed(f"{word}.", sent=word == "Broke") for word in AWAY)

    assert rule.allows(away)
    assert rule.allows(away)
    assert not Telling(note=said.append).allows(broke)
    assert said == ["Refused. Trying again …"]


def test_a_document_has_what_else_is_known() -> None:
    problem = json.loads(run(CASES[6][0], "group", "work", "-o", "json").stderr)["problems"]

    assert problem == [{"column": "age", "row": 3, "message": "no number"}]
    assert json.loads(run(CASES[7][0], "group", "work", "-o", "json").stderr)["retry_after"] == 2


def test_a_wrong_command_is_two_and_an_interrupt_130() -> None:
    wrong = click.UsageError("--json is no JSON.")

    assert run(wrong).exit_code == 2
    assert "Usage: " in run(wrong).stderr
    assert run(KeyboardInterrupt()).exit_code == 130
    said = run(wrong, "group", "work", "-o", "json")
    assert said.exit_code == 2
    assert json.loads(said.stderr) == {"error_code": "USAGE", "message": "--json is no JSON."}


@pytest.mark.parametrize(
    "arguments",
    [
        ["group", "work", "-o", "json", "-q"],
        ["group", "--output", "JSON", "-q", "work"],
        ["-o", "json", "group", "work", "--quiet"],
        ["-o", "yaml", "group", "-o", "text", "work", "-o", "json", "-q"],
    ],
)
def test_shared_options_stand_anywhere_and_the_last_word_counts(arguments: list[str]) -> None:
    assert json.loads(run(None, *arguments).stdout) == {"format": "json", "quiet": True}


def test_the_environment_chooses_a_format() -> None:
    env = {"DATABRICKS_OUTPUT_FORMAT": "yaml"}

    assert run(None, env=env).stdout == "format: yaml\nquiet: false\n"
    assert run(None, "group", "work", "-o", "json", env=env).stdout.startswith("{")
    assert run(None, env={"DATABRICKS_OUTPUT_FORMAT": "xml"}).exit_code == 2
