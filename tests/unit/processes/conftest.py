from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.processes.family import Family


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    family = Family(tmp_path)
    yield family
    family.close()
