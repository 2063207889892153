import importlib
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner, Result

from lakeport import __version__
from lakeport.cli.main import COMMANDS, lakeport
from lakeport.cli.options import setting_default
from lakeport.settings import Settings, env_name, flag_name


def run(*arguments: str) -> Result:
    return CliRunner().invoke(lakeport, arguments)


def test_the_version_is_told() -> None:
    assert run("--version").stdout == f"lakeport {__version__}\n"


def test_help_names_every_command_with_its_summary() -> None:
    said = run("--help").stdout

    assert all(name in said and entry.summary in said for name, entry in COMMANDS.items())


def test_each_summary_is_the_commands_own() -> None:
    for entry in COMMANDS.values():
        command = getattr(importlib.import_module(entry.module), entry.name)

        assert isinstance(command, click.Command)
        assert command.get_short_help_str() == entry.summary


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from lakeport.cli.main import lakeport\n"
        f"lakeport({arguments!r}, standalone_mode=False)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = set(done.stdout.splitlines()[-1].split())
    heavy = {"alembic", "asyncio", "fastapi", "mlflow", "pydantic", "rich", "sqlalchemy", "typer"}
    assert "click" in loaded
    assert not loaded & heavy


def test_another_name_is_the_same_command() -> None:
    assert (
        run("endpoints", "--help").stdout.splitlines()[1:]
        == (run("serving-endpoints", "--help").stdout.splitlines()[1:])
    )


def test_completing_a_command_loads_none() -> None:
    context = click.Context(lakeport)
    before = set(sys.modules)

    found = lakeport.shell_complete(context, "se")

    assert [item.value for item in found] == ["serve", "serving-endpoints"]
    assert [item.value for item in lakeport.shell_complete(context, "endp")] == ["endpoints"]
    assert not {name for name in set(sys.modules) - before if name.startswith("lakeport.")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    script = run("completion", shell).stdout

    assert f"_LAKEPORT_COMPLETE={shell}_complete" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_an_unknown_command_is_refused() -> None:
    result = run("sevre")

    assert result.exit_code == 2
    assert "sevre" in result.stderr


def test_serve_has_a_flag_for_each_setting() -> None:
    result = run("serve", "--help")
    said = " ".join(result.stdout.split())

    for name, field in Settings.model_fields.items():
        assert f"{flag_name(name)} " in said
        assert env_name(name) in said
        assert setting_default(field) in said


def test_a_missing_library_is_told_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(COMMANDS, "serve", COMMANDS["serve"]._replace(module="pydantic_is_missing"))

    result = run("serve")

    assert result.exit_code == 1
    assert "needs pydantic_is_missing" in result.stderr
    assert "'lakeport[server]'" in result.stderr


def test_a_command_that_is_no_servers_is_not_told_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(COMMANDS, "logs", COMMANDS["logs"]._replace(module="nowhere_to_be_found"))

    result = run("logs", "iris")

    assert result.exit_code == 1
    assert "pip install nowhere_to_be_found" in result.stderr
