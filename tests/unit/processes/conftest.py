"""What the tests of processes share."""

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path

import pytest
import uvloop

from tests.unit.processes.family import PATIENCE, Family, Run


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test's coroutine on either loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(main: Coroutine[None, None, None]) -> None:
        async def patient() -> None:
            async with asyncio.timeout(PATIENCE):
                await main

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(patient())

    return run


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    family = Family(tmp_path)
    yield family
    family.close()
