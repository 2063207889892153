"""What the plugin costs those who do not use it, and what its server needs."""

import json
import subprocess
import sys

import pytest

from lakeport.testing import server


def test_a_run_without_a_workspace_loads_nothing_more() -> None:
    program = (
        "import json, sys, pytest\n"
        "before = set(sys.modules)\n"
        "import lakeport.testing.plugin\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout) == ["lakeport", "lakeport.testing", "lakeport.testing.plugin"]


def test_an_environment_without_the_server_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "_NEEDED", ("no_such_package", "pytest"))

    with pytest.raises(server.ServerFailed, match=r"\(no_such_package\).*'lakeport\[testing\]'"):
        server.start()


def test_a_python_that_is_none_is_named() -> None:
    with pytest.raises(server.ServerFailed, match=r"(?s)ended with 127.*cannot run /no/python"):
        server.start(python="/no/python")
