"""A live workspace in your tests: the pytest plugin and what it gives.

The names below are for annotations, `def test_app(lakeport_workspace: Workspace)`; each is loaded
when it is first used, since every run of pytest imports this package.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakeport.testing.records import Call as Call
    from lakeport.testing.records import Fault as Fault
    from lakeport.testing.server import ServerFailed as ServerFailed
    from lakeport.testing.workspace import Workspace as Workspace

_HOMES = {
    "Call": "lakeport.testing.records",
    "Fault": "lakeport.testing.records",
    "ServerFailed": "lakeport.testing.server",
    "Workspace": "lakeport.testing.workspace",
}

__all__ = ["Call", "Fault", "ServerFailed", "Workspace"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lakeport.testing' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
