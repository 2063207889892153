"""Makes docs/compatibility.md: `python -m tests.contract.compatibility`.

Joins the table of operations with the tests that are marked as holding them.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.contract.operations import GROUPS, Group, Operation

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "compatibility.md"

INTRODUCTION = """\
# Compatibility

Made from `tests/contract/operations.py` by `python -m tests.contract.compatibility`; change it
there.

The tests drive `databricks-sdk` 0.59.0 and the newest, `openai`, `mlflow.deployments` and
`MlflowClient`, as they come from PyPI, against a running `lakeport serve`. `make parity` points
those that make sense there at a real workspace.

*Status*: **yes** is served; **501** is refused by name with `NOT_IMPLEMENTED` and comes later;
**no** is not there (404) and comes later. *From* says how we know what clients expect: from the
source of an SDK or of MLflow, from Databricks' documentation, or because it is our own. No line
was checked against the real service yet.

Every operation may also answer 401 `UNAUTHENTICATED`, 403 `PERMISSION_DENIED` and, where the path
names an endpoint, 404 `RESOURCE_DOES_NOT_EXIST`; [Errors](errors.md) has them all. Fields of the
control plane that are not named here are refused with 400, by name.
"""

Tests = Mapping[str, list[str]]


def marked() -> Tests:
    """The tests of each operation, as `file::test`, in the order in which they stand."""
    found: dict[str, list[str]] = {}
    for file in sorted(FOLDER.glob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for operation in _operations_of(node):
                    found.setdefault(operation, []).append(f"{file.name}::{node.name}")
    return found


def _operations_of(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in test.decorator_list:
        if (
            isinstance(decorator, ast.Call)
            and ast.unparse(decorator.func) == "pytest.mark.operation"
        ):
            for name in decorator.args:
                yield ast.literal_eval(name)


def page() -> str:
    tests = marked()
    parts = [INTRODUCTION, *(_table(group, tests) for group in GROUPS), _listed(tests)]
    return "\n".join(parts)


def status(operation: Operation) -> str:
    if operation.refused:
        return "501"
    return "no" if operation.missing else "yes"


def _table(group: Group, tests: Tests) -> str:
    lines = [
        f"## {group.title}",
        "",
        "| operation | status | request | fields | errors of its own | from | tested | notes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for operation in group.operations:
        cells = (
            operation.call if "(" not in operation.call else f"`{operation.call}`",
            f"**{status(operation)}**",
            f"`{operation.method} {operation.path}`",
            _fields(operation),
            _codes(operation.errors),
            operation.source.value,
            _tested(tests.get(operation.name, [])),
            operation.notes,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _fields(operation: Operation) -> str:
    taken = _codes(operation.takes)
    if operation.refused or not operation.refuses:
        return taken
    return f"{taken}; 501: {_codes(operation.refuses)}".removeprefix("; ")


def _codes(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _tested(tests: list[str]) -> str:
    if not tests:
        return "no"
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    counted = ((file, sum(test.startswith(f"{file}::") for test in tests)) for file in files)
    return ", ".join(f"`{file}` ({number})" for file, number in counted)


def _listed(tests: Tests) -> str:
    lines = [
        f"- {operation.name}: `{test}`"
        for group in GROUPS
        for operation in group.operations
        for test in tests.get(operation.name, [])
    ]
    return "\n".join(["## Which tests hold what", "", *lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
