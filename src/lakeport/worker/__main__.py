"""Started by path in isolated mode: `PYTHON -I -u .../lakeport/worker/__main__.py STATUS_FD` is a
worker, with `zygote CONTROL_FD` instead it is a zygote.

The siblings are loaded under a name of their own and no folder of ours is put on `sys.path`, so
that a model that does `import models` or `import errors` gets its own.
"""

import importlib.util
import sys
from pathlib import Path


def load_siblings() -> None:
    """Make this folder importable as the package `lakeport_worker`."""
    folder = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        "lakeport_worker", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load_siblings()
    if sys.argv[1] == "zygote":
        zygote = importlib.import_module("lakeport_worker.zygote")
        zygote.run(int(sys.argv[2]))
    else:
        main = importlib.import_module("lakeport_worker.main")
        main.run(int(sys.argv[1]))
