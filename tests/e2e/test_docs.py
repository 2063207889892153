"""The examples in the pages run as they stand, one after the other, against one server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lakeport.models import catalogue
from tests.e2e.serving import TOKEN, served

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
#: What the pages of chat show, in order; secrets come before those that use them.
CHAT_PAGES = (
    "docs/chat.md",
    "docs/embeddings.md",
    "docs/scripted.md",
    "docs/secrets.md",
    "docs/external-models.md",
    "docs/agents.md",
)

pytestmark = pytest.mark.timeout(300)


def examples(page: str, language: str = "python") -> list[str]:
    """The blocks of a page in one language, in order."""
    text = (ROOT / page).read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(program: list[str], address: str, folder: Path) -> str:
    """Run an example as somebody who exported what the server prints; what it said."""
    done = subprocess.run(
        program,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ
        | {
            "DATABRICKS_HOST": address,
            "DATABRICKS_TOKEN": TOKEN,
            "MLFLOW_TRACKING_URI": address,
            "MLFLOW_TRACKING_TOKEN": TOKEN,
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_catalogue_of_the_page_is_one(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.toml"
    file.write_text("\n".join(examples("docs/catalogue.md", "toml")))

    assert set(catalogue.read(file)) == {"system.ai.writer", "system.ai.big"}


@pytest.mark.slow
def test_the_examples_of_the_pages_run(tmp_path: Path) -> None:
    first, *others = examples("docs/quick-start.md")
    script = "\n".join(
        [
            first,
            *others,
            first,  # makes version 2, which the next page gives traffic to
            *examples("docs/rollouts-and-traffic.md"),
            *examples("docs/permissions.md"),
            *examples("docs/logs-and-metrics.md"),
            *examples("README.md"),
        ]
    )

    with served(TOOLS, tmp_path / "home") as address:
        said = run([sys.executable, "-c", script], address, tmp_path)

    assert "iris-1" in said


@pytest.mark.slow
def test_the_examples_of_chat_run(tmp_path: Path) -> None:
    answers = tmp_path / "answers.yml"
    (script,) = examples("docs/scripted.md", "yaml")
    answers.write_text(script)
    curls = [
        block
        for page in CHAT_PAGES
        for block in examples(page, "bash")
        if block.startswith("curl ")
    ]
    flags = [
        *("--chat", "databricks-claude-sonnet-4=system.ai.smollm2-135m-instruct"),
        *("--chat", f"helper=scripted:{answers}"),
        *("--embeddings", "minilm=system.ai.all-minilm-l6-v2"),
        *("--egress-allow", "127.0.0.1"),
    ]
    # Stands in for Ollama and for the other workspace.
    elsewhere = ["--auth", "off", "--registry", "off", "--chat", f"llama3=scripted:{answers}"]

    with (
        served(TOOLS, tmp_path / "elsewhere", *elsewhere) as other,
        served(TOOLS, tmp_path / "home", *flags) as address,
    ):
        python = "\n".join(block for page in CHAT_PAGES for block in examples(page))
        for written, real in (
            ("http://127.0.0.1:11434/v1", f"{other}/serving-endpoints"),
            ("https://other.example.com", other),
        ):
            assert written in python
            python = python.replace(written, real)
        said = run([sys.executable, "-c", python], address, tmp_path)
        answered = [run(["bash", "-c", curl], address, tmp_path) for curl in curls]

    for line in (
        "It is 330 metres high.",
        "llama Hello, you.",
        "theirs Hello again, you.",
        "You said: hello",
    ):
        assert line in said
    assert len(answered) == 3
    assert not [answer for answer in answered if "error" in answer]
    assert answered[1].rstrip().endswith("data: [DONE]")


@pytest.mark.slow
def test_the_examples_of_faults_run(tmp_path: Path) -> None:
    serve, cli, *curls = examples("docs/faults.md", "bash")
    *others, makes_helper = curls  # the page comes to it last
    tools = f'export PATH="{TOOLS}:$PATH"; set -e\n'

    with served(TOOLS, tmp_path / "home", *serve.split()[2:]) as address:
        made, listed, *told = (
            run(["bash", "-c", tools + block], address, tmp_path)
            for block in (makes_helper, cli, *others)
        )

    assert '"ready":"READY"' in made
    assert "helper\t429 retry_after=2\t3\t0" in listed
    assert '"status":503' in told[0]
    assert told[1] == '{"calls":[]}'
