"""What an import may load: an app that imports Lakeport, and a server that never runs a model."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
STDLIB = sys.stdlib_module_names
#: Loading a model is running its author's code, which only a worker may do; and these are heavy.
BANNED = {"cloudpickle", "joblib", "mlflow", "pandas", "pickle", "ray", "sklearn", "torch"}
#: httpx2's engine, and what that needs.
HTTP = {"anyio", "h11", "httpcore2", "httpx2", "idna", "sniffio", "truststore", "typing_extensions"}
#: What runs in processes of its own: models, the registry, and the demo, which is a client that
#: happens to be shipped. And what runs in applications and in their tests.
EXCEPT = (
    "lakeport/worker/",
    "lakeport/models/mlflow/process.py",
    "lakeport/cli/demo.py",
    "lakeport/client/batch/parquet_file.py",  # pyarrow brings cloudpickle
    "lakeport/client/sinks.py",
    "lakeport/features/",
    "lakeport/integrations/",
    "lakeport/testing/",
)


def loaded(code: str) -> set[str]:
    """The top-level modules in a fresh interpreter after `code`, but for those of an empty one."""
    report = "import sys, json; print(json.dumps(sorted(sys.modules)))"

    def names(source: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}

    return names(f"{code}\n{report}") - names(report)


def server_files() -> list[Path]:
    files = sorted((SRC / "lakeport").rglob("*.py"))
    return [f for f in files if not f.relative_to(SRC).as_posix().startswith(EXCEPT)]


def test_importing_lakeport_loads_nothing_from_elsewhere() -> None:
    others = loaded("import lakeport") - STDLIB - {"lakeport"}

    assert not others


def test_the_client_loads_its_http_library_and_no_other() -> None:
    allowed = {"lakeport", "orjson", *HTTP}

    strangers = loaded(
        "from lakeport import AsyncClient, Client\n"
        "for kind in (Client, AsyncClient): kind('https://lakeport.invalid', 'token')"
    )

    assert not strangers - STDLIB - allowed


def test_the_worker_imports_only_its_declared_floor() -> None:
    """Standard library, numpy and orjson at the top of its files, and simdjson where it is there;
    all else comes with the model."""
    # test_layers.py: of lakeport only itself
    allowed = STDLIB | {"numpy", "orjson", "simdjson", "lakeport"}
    strangers = {
        f"{file.name}: {name}"
        for file in sorted((SRC / "lakeport" / "worker").rglob("*.py"))
        for name in _top_level_imports(file)
        if name not in allowed
    }

    assert not strangers


@pytest.mark.parametrize("module", ["lakeport.worker", "lakeport.worker.protocol"])
def test_the_frames_need_only_the_standard_library(module: str) -> None:
    others = loaded(f"import {module}") - STDLIB - {"lakeport"}

    assert not others


def test_no_server_file_mentions_what_runs_models() -> None:
    wrong = {
        f"{file.relative_to(SRC)}: {name}"
        for file in server_files()
        for name in _imports(ast.parse(file.read_text(encoding="utf-8")))
        if name in BANNED
    }

    assert not wrong


def test_a_server_loads_nothing_that_runs_models() -> None:
    # `pickle` itself comes with the standard library's multiprocessing, which others import.
    everything = [
        ".".join(f.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        for f in server_files()
        if f.name != "__main__.py" and "migrations" not in f.parts
    ]
    code = "\n".join(f"import {module}" for module in everything)

    assert not loaded(code) & (BANNED - {"pickle"})


def _imports(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _top_level_imports(file: Path) -> set[str]:
    """Imports outside functions, but for those that only type checkers see."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            node.body = []
    return _imports(tree)
