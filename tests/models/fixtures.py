"""Models for tests: each is built or fetched once a session, when first asked for.

`saved_model(name)` is the folder of a small MLflow model. `put_weights(home, name)` puts the files
of a catalogue model, e.g. "smollm2-135m-instruct", where a server on `home` looks for them.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.build import build

SavedModel = Callable[[str], Path]
PutWeights = Callable[[Path, str], None]


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """The folder of a saved model, by its name in `tests.models.build.NAMES`."""
    folder = tmp_path_factory.mktemp("models")
    built: dict[str, Path] = {}

    def saved(name: str) -> Path:
        if name not in built:
            built[name] = build(name, folder)
        return built[name]

    return saved


@pytest.fixture(scope="session")
def put_weights(tmp_path_factory: pytest.TempPathFactory) -> PutWeights:
    from lakeport.models.catalogue import load
    from lakeport.runtimes.engine.weights import Weights

    fetched = tmp_path_factory.mktemp("weights")

    async def fetch(name: str) -> None:
        weights = Weights(fetched)
        await weights.open()
        try:
            await weights.fetch(load(None)[f"system.ai.{name}"], print)
        finally:
            await weights.close()

    def put(home: Path, name: str) -> None:
        asyncio.run(fetch(name))
        for folder in fetched.glob(f"{name}-*"):
            into = home / "weights" / folder.name
            shutil.copytree(folder, into, copy_function=os.link, dirs_exist_ok=True)

    return put
