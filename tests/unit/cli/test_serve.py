import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from lakeport.cli.main import lakeport
from lakeport.home import HomeInUse
from lakeport.settings import Settings


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env=environ).invoke(lakeport, ["serve", *arguments])


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Settings that the server was started with, by a stand-in for the application."""
    seen: list[Settings] = []

    def start(settings: Settings) -> int:
        seen.append(settings)
        return 7

    stand_in(monkeypatch, start)
    return seen


def stand_in(monkeypatch: pytest.MonkeyPatch, run: Callable[[Settings], int]) -> None:
    module = ModuleType("lakeport.application")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lakeport.application", module)


def test_flags_reach_the_server_and_its_exit_status_the_shell(
    served: list[Settings], tmp_path: Path
) -> None:
    result = run(
        "--home", str(tmp_path), "--port", "0", "--model", "a=./x", "--model", "b=./y",
        LAKEPORT_LOG_LEVEL="debug",
    )  # fmt: skip

    assert result.exit_code == 7
    (settings,) = served
    assert (settings.home, settings.port, settings.model) == (tmp_path, 0, ["a=./x", "b=./y"])
    assert settings.log_level == "debug"


@pytest.mark.parametrize(
    ("arguments", "environ", "faults"),
    [
        (["--faults"], {}, True),
        ([], {"LAKEPORT_FAULTS": "true"}, True),
        (["--faults"], {"LAKEPORT_FAULTS": "false"}, True),
        ([], {}, False),
    ],
)
def test_a_setting_that_is_on_or_off_is_a_flag_without_a_value(
    served: list[Settings],
    tmp_path: Path,
    arguments: list[str],
    environ: dict[str, str],
    faults: bool,
) -> None:
    run("--home", str(tmp_path), *arguments, **environ)

    assert served[0].faults is faults


def test_a_file_may_be_named(served: list[Settings], tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(f'home = "{tmp_path / "home"}"\nmodel = ["a=./x"]')

    run("--config", str(file))

    assert (served[0].home, served[0].model) == (tmp_path / "home", ["a=./x"])


def test_bad_settings_are_one_line_each_and_exit_2(served: list[Settings], tmp_path: Path) -> None:
    result = run(
        "--home", str(tmp_path), "--port", "x",
        LAKEPORT_ADMIN_TOKEN="too short", LAKEPORT_AUTH="maybe",
    )  # fmt: skip

    assert result.exit_code == 2
    assert not served
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "lakeport: port",
        "lakeport: auth",
        "lakeport: admin_token",
    ]
    assert "too short" not in result.stderr


def test_a_home_in_use_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(settings: Settings) -> int:
        raise HomeInUse("Another Lakeport server (pid 1) uses it.")

    stand_in(monkeypatch, refuse)

    result = run("--home", str(tmp_path))

    assert result.exit_code == 1
    assert result.stderr == "Error: Another Lakeport server (pid 1) uses it.\n"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("LAKEPORT_PROT", "LAKEPORT_PORT"),
        ("LAKEPORT_TOKEN", "LAKEPORT_ADMIN_TOKEN"),
        ("LAKEPORT_port", "LAKEPORT_PORT"),
        ("LAKEPORT_PORT", None),
        ("LAKEPORT_SERVICE_HOST", None),
        ("LAKEPORT_PORT_8080_TCP_ADDR", None),
        ("PROT", None),
    ],
)
def test_a_misspelt_variable_is_told(
    variable: str, meant: str | None, served: list[Settings], tmp_path: Path
) -> None:
    result = run("--home", str(tmp_path), **{variable: "8099"})

    told = f"lakeport: {variable} is ignored: there is no such setting; did you mean {meant}?\n"
    assert result.stderr == (told if meant else "")
    assert len(served) == 1
