import pytest

from lakeport.stores.memory import MemoryStore
from tests.suites.store import StoreSuite


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()
