"""The command line against a real server, and docs/cli.md as it stands."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from lakeport.cli.main import COMMANDS, SERVER, lakeport
from tests.integration.conftest import MODEL, Stock
from tests.integration.server import ServerProcess, closing
from tests.models.fixtures import SavedModel

TOOLS = Path(sys.executable).parent
PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
COLUMNS = [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")]
ROWS = {"dataframe_split": {"columns": COLUMNS, "data": [[5.1, 3.5, 1.4, 0.2], [6, 3, 5, 2]]}}
ANSWERS = """
rules:
  - match: "(?i)hello,? (?P<who>\\\\w+)"
    reply: "Hello, \\\\g<who>."
  - match: "busy"
    status: 400
    message: "I will not."
default: "I have no words for that."
"""

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, stock: Stock, saved_model: SavedModel
) -> Iterator[ServerProcess]:
    """A server with the endpoints `shared`, a classic model, and `helper`, a scripted chat."""
    folder = tmp_path_factory.mktemp("cli")
    shutil.copytree(stock.home, folder / "home")
    answers = folder / "answers.yml"
    answers.write_text(ANSWERS)
    made = ServerProcess(
        folder / "home",
        env_manager="local",
        models={"shared": saved_model("iris")},
        chat=f"helper=scripted:{answers}",
    )
    with closing(made):
        made.start()
        made.updated("shared")
        yield made


@pytest.fixture
def environment(server: ServerProcess, tmp_path: Path) -> dict[str, str]:
    return {
        "DATABRICKS_HOST": str(server.client.base_url).rstrip("/"),
        "DATABRICKS_TOKEN": server.token,
        "DATABRICKS_CONFIG_FILE": str(tmp_path / "none"),
        "HOME": str(tmp_path),
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def call(*arguments: str, stdin: str | None = None, **variables: str | None) -> Result:
        unset = {"DATABRICKS_OUTPUT_FORMAT": None, "DATABRICKS_CONFIG_PROFILE": None}
        runner = CliRunner(env=unset | environment | variables)
        return runner.invoke(lakeport, arguments, input=stdin)

    return call


@pytest.fixture
def done(run: Run) -> Callable[..., str]:
    """The output of a command that succeeds."""

    def call(*arguments: str, **more: Any) -> str:
        result = run(*arguments, **more)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


Done = Callable[..., str]


def outside(model: str) -> dict[str, Any]:
    """A config that serves at once: it needs no process."""
    keys = {"openai_api_key_plaintext": "sk-of-nobody"}
    external = {"provider": "openai", "name": model, "task": "llm/v1/chat", "openai_config": keys}
    return {"served_entities": [{"name": model, "external_model": external}]}


# --- endpoints ----------------------------------------------------------------------------------


def test_json_and_yaml_are_exactly_the_rest_body(server: ServerProcess, done: Done) -> None:
    assert json.loads(done("endpoints", "get", "shared", "-o", "json")) == server.get("shared")
    assert yaml.safe_load(done("-o", "yaml", "endpoints", "get", "shared")) == server.get("shared")
    listed = json.loads(done("serving-endpoints", "list", "-o", "json"))
    assert listed == server.call("GET", "serving-endpoints")


def test_text_in_a_pipe_is_one_endpoint_a_line(done: Done) -> None:
    lines = [line.split("\t") for line in done("endpoints", "list").splitlines()]

    assert ["helper", "READY", "NOT_UPDATING", "llm/v1/chat", "scripted"] in lines
    assert ["shared", "READY", "NOT_UPDATING", "", "shared 1"] in lines


def test_an_endpoints_life(run: Run, done: Done) -> None:
    body = json.dumps({"config": outside("first"), "tags": [{"key": "team"}]})
    change = ("--json", json.dumps(outside("second")), "-o", "json")

    created = run("endpoints", "create", "life", "--json", "-", stdin=body)
    again = run("endpoints", "create", "life", "--json", "-", stdin=body)
    updated = json.loads(done("endpoints", "update-config", "life", *change))
    stopped = json.loads(done("endpoints", "stop", "life", "-o", "json"))
    started = json.loads(done("endpoints", "start", "life", "-o", "json"))

    assert created.exit_code == 0
    assert "name\tlife\n" in created.stdout
    assert "serves\tfirst\topenai:first\t100%\tDEPLOYMENT_READY\t\n" in created.stdout
    assert again.exit_code == 1
    assert again.stderr.startswith("Error: RESOURCE_ALREADY_EXISTS: ")
    assert updated["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}
    assert updated["config"]["served_entities"][0]["name"] == "second"
    assert stopped["state"]["ready"] == "NOT_READY"
    assert started["state"] == {"ready": "READY", "config_update": "NOT_UPDATING"}
    tags = json.dumps({"add_tags": [{"key": "a", "value": "1"}], "delete_tags": ["team"]})
    assert done("endpoints", "patch", "life", "--json", tags) == "a\t1\n"
    assert done("endpoints", "delete", "life") == ""
    assert run("endpoints", "get", "life").exit_code == 3


def test_a_failed_update_tells_why(stock: Stock, run: Run) -> None:
    config = {"served_entities": [stock.entity("broken-1", "load_raises")]}

    result = run("endpoints", "create", "broken", "--json", json.dumps({"config": config}))

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "broken: 0 s: broken-1" in result.stderr
    assert "Error: UPDATE_FAILED: the update of broken failed.\n  broken-1: " in result.stderr
    assert "no reason is given" not in result.stderr


def test_one_need_not_wait_and_not_for_long(server: ServerProcess, stock: Stock, run: Run) -> None:
    config = {"served_entities": [stock.entity("slow-1", "load_hangs")]}
    wish = json.dumps({"name": "slow", "config": config})

    at_once = run("endpoints", "create", "--json", wish, "--no-wait", "-o", "json")
    conflict = run("endpoints", "update-config", "slow", "--json", json.dumps(config))
    server.call("DELETE", "serving-endpoints/slow")
    late = run("endpoints", "create", "--json", wish, "--timeout", "300ms")
    server.call("DELETE", "serving-endpoints/slow")

    assert at_once.exit_code == 0
    assert json.loads(at_once.stdout)["state"]["config_update"] == "IN_PROGRESS"
    assert conflict.exit_code == 1
    assert conflict.stderr.startswith("Error: RESOURCE_CONFLICT: ")
    assert late.exit_code == 5
    assert "slow is still updating after 0.3 s; the update goes on." in late.stderr


def test_an_interrupt_ends_the_wait_and_not_the_update(
    server: ServerProcess, stock: Stock, environment: dict[str, str]
) -> None:
    config = {"served_entities": [stock.entity("waits-1", "load_hangs")]}
    wish = json.dumps({"name": "waits", "config": config})

    with subprocess.Popen(
        [TOOLS / "lakeport", "endpoints", "create", "--json", wish],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stderr is not None
        first = command.stderr.readline()
        command.send_signal(signal.SIGINT)
        _, rest = command.communicate(timeout=30)

    assert "waits: 0 s: waits-1" in first
    assert command.returncode == 130
    assert "the update of waits goes on" in rest
    assert "Traceback" not in rest
    assert server.get("waits")["state"]["config_update"] == "IN_PROGRESS"
    server.call("DELETE", "serving-endpoints/waits")


def test_permissions_are_granted_by_name_and_by_id(server: ServerProcess, done: Done) -> None:
    grant = {"access_control_list": [{"group_name": "users", "permission_level": "CAN_QUERY"}]}
    id = server.get("shared")["id"]

    set_ = done("endpoints", "set-permissions", "shared", "--json", json.dumps(grant))
    got = done("endpoints", "get-permissions", id)
    done("endpoints", "update-permissions", id, "--json", json.dumps(grant))
    levels = done("endpoints", "get-permission-levels", "shared")

    assert "users\tgroup\tCAN_QUERY\t\n" in set_
    assert set_ == got
    assert [line.partition("\t")[0] for line in levels.splitlines()] == [
        "CAN_MANAGE",
        "CAN_QUERY",
        "CAN_VIEW",
    ]


def test_logs_metrics_and_the_schema_are_printed(done: Done) -> None:
    logs = done("logs", "shared")
    build = done("logs", "shared", "--build", "--entity", "shared")

    assert "worker started" in logs
    assert logs == done("endpoints", "logs", "shared", "shared")
    assert build == done("endpoints", "build-logs", "shared", "shared")
    assert "request_count_total" in done("endpoints", "export-metrics", "shared", "-o", "json")
    assert "/invocations" in "".join(
        yaml.safe_load(done("endpoints", "get-open-api", "shared", "-o", "yaml"))["paths"]
    )


# --- what is refused ----------------------------------------------------------------------------


def test_exit_codes_tell_what_was_wrong(run: Run) -> None:
    missing = run("endpoints", "get", "nothing here")
    path = run("api", "get", "/api/2.0/nothing")
    stranger = run("endpoints", "list", DATABRICKS_TOKEN="dapi-unknown")
    nobody = run("endpoints", "list", DATABRICKS_HOST=None, DATABRICKS_TOKEN=None)
    text = run("query", "nothing-here", "--text", "Hello")
    refused = run("endpoints", "put-ai-gateway", "shared", "--json", "{}")

    assert (missing.exit_code, missing.stdout) == (3, "")
    assert missing.stderr.startswith("Error: RESOURCE_DOES_NOT_EXIST: ")
    assert path.exit_code == 3
    assert (text.exit_code, text.stdout) == (3, "")
    assert stranger.exit_code == 4
    assert "dapi-unknown" not in stranger.stderr
    assert nobody.exit_code == 4
    assert "DATABRICKS_HOST" in nobody.stderr
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: NOT_IMPLEMENTED: ")


def test_one_who_may_not_is_told_so(server: ServerProcess, run: Run) -> None:
    token = subprocess.run(
        [TOOLS / "lakeport", "token", "--home", str(server.home), "--caller", "bo"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()

    told = run("endpoints", "delete", "shared", DATABRICKS_TOKEN=token)

    assert told.exit_code == 4
    assert told.stderr.startswith("Error: PERMISSION_DENIED: ")


def test_a_profile_says_where_and_as_whom(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "databrickscfg"
    host, token = environment["DATABRICKS_HOST"], environment["DATABRICKS_TOKEN"]
    file.write_text(f"[here]\nhost = {host}\ntoken = {token}\n")
    only = {"DATABRICKS_HOST": None, "DATABRICKS_TOKEN": None, "DATABRICKS_CONFIG_FILE": str(file)}

    assert "shared" in run("-p", "here", "endpoints", "list", **only).stdout
    assert "shared" in run("endpoints", "list", "--profile", "here", **only).stdout
    unknown = run("endpoints", "list", "-p", "there", **only)
    assert unknown.exit_code == 4
    assert "there" in unknown.stderr


# --- asking -------------------------------------------------------------------------------------


def test_a_query_prints_predictions_or_the_whole_body(server: ServerProcess, done: Done) -> None:
    inline = done("query", "shared", "--json", json.dumps(ROWS))
    piped = done("endpoints", "query", "shared", "-o", "json", stdin=json.dumps(ROWS))
    one = done("query", "shared", "--entity", "shared", "--json", json.dumps(ROWS))

    assert inline == one == "0\n2\n"
    assert json.loads(piped)["predictions"] == [0, 2]


def test_a_query_that_does_not_fit_is_refused_with_the_column(run: Run) -> None:
    odd = {"dataframe_records": [{"sepal length (cm)": 5.1}]}

    result = run("query", "shared", "--json", json.dumps(odd))

    assert result.exit_code == 1
    assert "sepal width (cm)" in result.stderr


def test_a_text_is_a_message_and_may_be_streamed(done: Done) -> None:
    assert done("query", "helper", "--text", "Hello Ana") == "Hello, Ana.\n"
    assert done("query", "helper", "--text", "Hello Ana", "--stream") == "Hello, Ana.\n"
    body = json.dumps({"messages": [{"role": "user", "content": "Hello Bo"}], "stream": True})
    assert done("query", "helper", "--json", body) == "Hello, Bo.\n"
    events = done("query", "helper", "--json", body, "-o", "json").splitlines()
    pieces = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events]
    assert "".join(pieces) == "Hello, Bo."


def test_a_signature_is_shown_and_its_example_can_be_asked(done: Done) -> None:
    lines = [line.split("\t") for line in done("signature", "shared").splitlines()]
    document = json.loads(done("signature", "shared", "-o", "json"))
    example = done("signature", "shared", "--example")

    assert ["input", "sepal length (cm)", "double", "required"] in lines
    assert [column["name"] for column in document["inputs"]] == COLUMNS
    assert json.loads(example) == document["example"]
    assert done("query", "shared", stdin=example).strip().isdigit()


def test_any_call_of_the_api(server: ServerProcess, run: Run, done: Done) -> None:
    made = json.loads(done("api", "post", "/api/2.0/token/create", "--json", '{"comment": "cli"}'))
    events = json.loads(done("api", "get", "/api/2.0/lakeport/events?endpoint=shared&limit=1"))

    assert made["token_info"]["comment"] == "cli"
    assert len(events["events"]) == 1
    assert "request_count_total" in done("api", "get", "/metrics")
    assert run("api", "get", "api/2.0/x").exit_code == 2


# --- talking ------------------------------------------------------------------------------------


def test_one_question_from_the_arguments_or_a_pipe(run: Run, done: Done) -> None:
    assert done("chat", "helper", "Hello Ana") == "Hello, Ana.\n"
    assert done("chat", "helper", "-", stdin="Hello Bo\n") == "Hello, Bo.\n"
    assert done("chat", "helper", stdin="Hello Cy\n") == "Hello, Cy.\n"
    whole = json.loads(done("chat", "helper", "Hello Ana", "-o", "json"))
    assert whole["choices"][0]["message"]["content"] == "Hello, Ana."
    assert run("chat", "helper", stdin=" \n").exit_code == 2
    refused = run("chat", "helper", "busy")
    assert refused.exit_code == 1
    assert "I will not." in refused.stderr
    assert run("chat", "nobody", "Hello").exit_code == 3


def test_a_conversation_on_a_terminal(environment: dict[str, str]) -> None:
    typed = "Hello Ana\rbusy\r/clear\r/what\r/help\rHello Bo\r/exit\r"

    said, code = on_a_terminal(["chat", "helper"], typed, environment)

    assert code == 0
    assert "Talking with helper." in said
    assert "Hello, Ana." in said
    assert "I will not." in said
    assert "There is no /what." in said
    assert "Ctrl-C stops an answer." in said
    assert "Hello, Bo." in said


def test_a_conversation_ends_with_the_input(environment: dict[str, str]) -> None:
    said, code = on_a_terminal(["chat", "helper"], "Hello Ana\r\x04", environment)

    assert code == 0
    assert "Hello, Ana." in said


def test_a_terminal_gets_a_table_in_colour_unless_asked_not_to(environment: dict[str, str]) -> None:
    tinted, _ = on_a_terminal(["endpoints", "list"], "", environment)
    plain, _ = on_a_terminal(["endpoints", "list"], "", environment | {"NO_COLOR": "1"})

    assert "\x1b[32mREADY" in tinted
    assert "\x1b" not in plain
    assert re.search(r"^NAME +READY +UPDATE +TASK +SERVES\r?$", plain, re.MULTILINE)
    assert re.search(r"^helper +READY +NOT_UPDATING +llm/v1/chat +scripted", plain, re.MULTILINE)


def on_a_terminal(arguments: list[str], typed: str, environment: dict[str, str]) -> tuple[str, int]:
    """What a command shows on a terminal of its own, and its exit code."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [TOOLS / "lakeport", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | environment | {"TERM": "xterm"},
        start_new_session=True,
    ) as command:
        os.close(theirs)
        said = b""
        prompts = typed.split("\r")
        try:
            while piece := os.read(ours, 4096):
                said += piece
                # A line is typed when it is asked for, as people do.
                if said.endswith(b"> ") and prompts:
                    line = prompts.pop(0)
                    os.write(ours, line.encode() + (b"" if line == "\x04" else b"\r"))
        except OSError:
            pass  # Linux' word for a terminal that nobody holds any more
        code = command.wait(30)
    os.close(ours)
    return said.decode(errors="replace"), code


# --- completion, and a light install ------------------------------------------------------------


def completed(words: str, environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [TOOLS / "lakeport"],
        env=os.environ
        | environment
        | {
            "_LAKEPORT_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_names_are_completed(environment: dict[str, str]) -> None:
    assert completed("lakeport endpoints get sh", environment) == ["shared"]
    assert set(completed("lakeport query ", environment)) >= {"helper", "shared"}
    assert completed("lakeport endpoints logs shared ", environment) == ["shared"]
    assert "serving-endpoints" in completed("lakeport se", environment)
    assert completed("lakeport endpoints update-c", environment) == ["update-config"]
    assert "--output" in completed("lakeport endpoints get --o", environment)


def test_completion_is_silent_when_nobody_answers(environment: dict[str, str]) -> None:
    away = environment | {"DATABRICKS_HOST": "http://127.0.0.1:9"}

    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and answers none
        hung = away | {"DATABRICKS_HOST": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        assert completed("lakeport endpoints get ", hung) == []
    assert completed("lakeport endpoints get ", away) == []
    assert completed("lakeport endpoints get ", away | {"DATABRICKS_TOKEN": ""}) == []


def test_the_commands_need_nothing_but_what_every_install_has(
    environment: dict[str, str],
) -> None:
    heavy = ["aiohttp", "databricks", "fastapi", "mlflow", "numpy", "pandas", "pyarrow", "pydantic"]
    heavy += ["polars", "sqlalchemy", "starlette", "uvicorn"]
    commands = sorted(COMMANDS.keys() - SERVER)
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({heavy}))\n"
        "from lakeport.cli.main import lakeport\n"
        f"for command in {commands}:\n"
        "    lakeport([command, '--help'], standalone_mode=False)\n"
        "lakeport(['endpoints', 'list'], standalone_mode=False)\n"
        f"lakeport(['query', 'shared', '--json', {json.dumps(ROWS)!r}], standalone_mode=False)\n"
        "lakeport(['chat', 'helper', 'Hello Ana'])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("0\n2\nHello, Ana.\n")


# --- the page -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_examples_of_the_page_run(
    stock: Stock, environment: dict[str, str], tmp_path: Path
) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    program = "\n".join(blocks)
    # The page's model goes by another name here, and its two versions are one.
    wanted = f'"entity_name": "{MODEL}", "entity_version": "{stock.versions["iris"]}"'
    program, count = re.subn('"entity_name": "iris", "entity_version": "[12]"', wanted, program)

    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", program],
        env=os.environ | environment | {"PATH": f"{TOOLS}:{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert count == 2
    assert done.stdout.count("Hello, Ana.") == 4
    assert "team\trisk" in done.stdout
    assert json.loads((tmp_path / "iris.json").read_text())["state"]["ready"] == "READY"
    shown = PAGE.read_text("utf-8")
    assert not [name for name in COMMANDS if f"lakeport {name}" not in shown and name not in SERVER]
