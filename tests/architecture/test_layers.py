"""Imports point one way. The map below is the law; ARCHITECTURE.md draws the same for people.

Imports inside functions and under TYPE_CHECKING count: a cycle is no better for being hidden.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

ADAPTER, WORKER = -1, -2
#: What an application installs: the client, which knows nobody, and what is built upon it.
CLIENT, TOOLKIT = -3, -4
#: Module prefix to layer; the longest prefix that fits counts. A module may import its own layer
#: and those below it.
LAYERS = {
    "lakeport.errors": 0,
    "lakeport.home": 0,
    "lakeport.settings": 0,
    "lakeport.wire": 0,
    "lakeport.telemetry": 0,
    "lakeport.auth.callers": 0,
    "lakeport.models": 1,
    "lakeport.processes": 1,
    "lakeport.models.base": 2,
    "lakeport.providers.base": 2,
    "lakeport.runtimes.base": 2,
    "lakeport.stores.base": 2,
    "lakeport.stores.records": 2,
    "lakeport.control.chat_entities": 3,
    "lakeport.control.external": 3,
    "lakeport.control.rollout": 3,
    "lakeport.control.validation": 3,
    "lakeport.gateway.fallback": 3,
    "lakeport.serving.autoscale": 3,
    "lakeport.serving.routes": 3,
    "lakeport.gateway": 4.1,
    "lakeport.serving": 4.2,
    "lakeport.control": 4.3,
    "lakeport.api": 5,
    "lakeport.application": 6,
    "lakeport.cli": 7,
    "lakeport.__main__": 8,
    "lakeport.auth": ADAPTER,
    "lakeport.models.mlflow": ADAPTER,
    "lakeport.providers": ADAPTER,
    "lakeport.runtimes": ADAPTER,
    "lakeport.stores": ADAPTER,
    "lakeport.worker": WORKER,
    "lakeport.client": CLIENT,
    "lakeport.features": TOOLKIT,
    "lakeport.integrations": TOOLKIT,
    "lakeport.testing": TOOLKIT,
}
#: The highest layer that an adapter may import.
PORTS = 2
#: Single ways across the map.
ALLOWED = {
    # Both ends of the frames share their definition, which is standard library only.
    ("lakeport.runtimes.local", "lakeport.worker.protocol"),
    # Works on a home without a server: building one to make a token would take a second.
    ("lakeport.cli.token", "lakeport.auth.tokens"),
    ("lakeport.cli.token", "lakeport.stores"),
    ("lakeport.cli.models", "lakeport.runtimes.engine.weights"),
    # A test's own process joins as a replica: it is a worker, with the worker's own words.
    ("lakeport.testing", "lakeport.worker"),
}


def place(module: str) -> tuple[str, float] | None:
    """The prefix that decides for `module`, and its layer."""
    fits = [p for p in LAYERS if module == p or module.startswith(p + ".")]
    return (best := max(fits, key=len), LAYERS[best]) if fits else None


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Every name that `tree` imports, as full as it is written; `package` resolves dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(up if node.level else []), *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def refused(importer: str, target: str) -> bool:
    here, there = place(importer), place(target)
    if here is None or there is None or here[0] == there[0]:
        return False
    if any(importer.startswith(a) and target.startswith(b) for a, b in ALLOWED):
        return False
    if there[1] == WORKER or here[1] in (WORKER, CLIENT):
        return True
    if here[1] == TOOLKIT:
        return there[1] not in (CLIENT, TOOLKIT)
    if there[1] in (CLIENT, TOOLKIT):
        return not importer.startswith("lakeport.cli")
    if there[1] == ADAPTER:
        return importer != "lakeport.application"
    return there[1] > (PORTS if here[1] == ADAPTER else here[1])


def modules() -> Iterator[tuple[str, str, Path]]:
    """Module, the package that its relative imports start from, file."""
    for file in sorted(SRC.rglob("*.py")):
        parts = file.relative_to(SRC).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        yield name, name if file.stem == "__init__" else ".".join(parts[:-1]), file


def test_every_module_has_a_place() -> None:
    strays = [name for name, _, _ in modules() if name != "lakeport" and place(name) is None]

    assert not strays, "give these a layer in the map above"


def test_imports_point_one_way() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, package, file in modules()
        for target in imported(ast.parse(file.read_text(encoding="utf-8")), package)
        if refused(name, target)
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("lakeport.wire.endpoints", "from lakeport.stores.records import EndpointRecord"),
        ("lakeport.serving.invoke", "def f():\n    from lakeport.control import reconciler"),
        ("lakeport.control.reconciler", "import lakeport.runtimes.local.runtime"),
        ("lakeport.api.app", "from lakeport.stores import sql"),
        ("lakeport.stores.sql", "from lakeport.serving.routes import choose"),
        ("lakeport.worker.main", "from lakeport.errors import ApiError"),
        ("lakeport.worker.main", "from ..wire import endpoints"),
        ("lakeport.control.endpoints", "from lakeport.worker.protocol import Frame"),
    ],
)
def test_the_map_refuses(importer: str, source: str) -> None:
    names = imported(ast.parse(source), importer.rpartition(".")[0])

    assert any(refused(importer, name) for name in names)
