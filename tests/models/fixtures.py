"""The fixture `saved_model(name)`: each model is built once a session, when first asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.build import build

SavedModel = Callable[[str], Path]


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
