"""The examples of docs/guide run as they stand, each page as one program."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guide.workspace import exported
from tests.integration.server import ServerProcess

PAGES = Path(__file__).parents[2] / "docs" / "guide"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: Page, and what its examples print.
SAID = {
    "index": ("iris READY http", "[0] iris-1 0."),
    "list": (
        "Name: iris\nState: READY\n",
        "['databricks-claude-sonnet-4', 'llama-chat-endpoint'] []",
    ),
    "inspect": ("iris-1: iris version 1, 100 % of the requests", "sepal length (cm) double"),
    "query-classic": (
        "[0, 2]\niris-1 ",
        "[6.0, 15.0]\n[3.0, 7.0]\n",
        "did you mean it by 'petal_width'?\nsepal length (cm) 1 expected a number, got 'long'\n",
    ),
    "features": (
        "[32.2, 61.9]\n[45.155]\n[41.0, 41.0]\n",
        "The source has no features for customer_id=12345.",
    ),
    "logging": (),
    "fastapi": (),
    "chat": ("databricks-claude-sonnet-4",),  # how a small model ends is its own affair
    "error-handling": (
        "{'predictions': [0]}",
        "There is no endpoint 'no-such-endpoint'",
        "'problems': [",
    ),
    "best-practices": (),
    "drop-in": (
        "/serving-endpoints/iris/invocations",
        "[6.0]",
        "[3.0, 7.0]",
        "{'predictions': [3.0]",
    ),
}


@pytest.mark.parametrize("page", SAID)
def test_the_examples_of_a_page_run(page: str, server: ServerProcess, tmp_path: Path) -> None:
    text = (PAGES / f"{page}.md").read_text("utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | exported(server),
    )

    assert done.returncode == 0, done.stderr
    for words in SAID[page]:
        assert words in done.stdout
    if page == "logging":
        assert '"predictions":[32.2]' in (tmp_path / "predictions.jsonl").read_text()


def test_every_page_is_run() -> None:
    # Those of batches run beside the tests of batches; one has no examples.
    others = {"batch", "original-guide"}

    assert {page.stem for page in PAGES.glob("*.md")} == SAID.keys() | others


def test_each_of_the_eight_best_practices_is_there() -> None:
    text = (PAGES / "best-practices.md").read_text("utf-8")

    shown = re.findall(r"^\*\*(\d)\. [^*]+\*\*.*?:\n\n```python\n", text, re.MULTILINE | re.DOTALL)

    assert shown == [str(number) for number in range(1, 9)]
