"""The examples in the pages run as they stand, one after the other, against one server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.serving import TOKEN, served

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def examples(page: str) -> list[str]:
    """The Python blocks of a page, in order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


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

    with served(Path(sys.executable).parent, tmp_path / "home") as address:
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=os.environ
            | {
                "DATABRICKS_HOST": address,
                "DATABRICKS_TOKEN": TOKEN,
                "MLFLOW_TRACKING_URI": address,
                "MLFLOW_TRACKING_TOKEN": TOKEN,
            },
        )

    assert done.returncode == 0, done.stderr
    assert "iris-1" in done.stdout
