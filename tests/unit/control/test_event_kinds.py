"""Kinds of events: what the code tells, what the API takes and what the page lists are the same."""

import ast
import re
from pathlib import Path

from lakeport.wire.events import KINDS

ROOT = Path(__file__).parents[3]
CONTROL = ROOT / "src" / "lakeport" / "control"
PAGE = ROOT / "docs" / "watching.md"


def words(tree: ast.AST) -> set[str]:
    """Every string that stands where a kind does: in what is told, or given to `kind` before."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            place = {"EventRecord": 2, "happened": 1}.get(name)
            if place is not None and len(node.args) > place:
                found |= _strings(node.args[place])
        elif isinstance(node, ast.Assign):
            target = ast.unparse(node.targets[0]).strip("()")
            if target == "kind":
                found |= _strings(node.value)
            elif target.startswith("kind,") and isinstance(node.value, ast.Tuple):
                found |= _strings(node.value.elts[0])
    return found


def _strings(node: ast.expr) -> set[str]:
    if isinstance(node, ast.IfExp):
        return _strings(node.body) | _strings(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_every_kind_that_is_told_is_known_and_told() -> None:
    told = set[str]()
    for file in CONTROL.rglob("*.py"):
        told |= words(ast.parse(file.read_text(encoding="utf-8")))

    assert told == KINDS.keys()


def test_the_page_lists_every_kind() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE))

    assert {name: text for name, text in listed.items() if name in KINDS} == KINDS
