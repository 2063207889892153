"""One workspace for the guide's code and for the pages that took its place."""

from collections.abc import Iterator

import pytest

from tests.guide.workspace import guide_workspace
from tests.integration.server import ServerProcess
from tests.models.fixtures import PutWeights, SavedModel


@pytest.fixture(scope="session")
def server(saved_model: SavedModel, put_weights: PutWeights) -> Iterator[ServerProcess]:
    with guide_workspace(saved_model, put_weights) as running:
        yield running
