"""The door's tests run on the loop that the server runs on, and through each of the doors."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.unit.api.fakes import World


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def built() -> World:
    return World(max_body=1000)


@pytest.fixture(params=["lane", "bridge"])
def world(built: World, request: pytest.FixtureRequest) -> World:
    """With invocations on the lane, and on the bridge as everything else."""
    world = built.fresh()
    world.door = request.param
    return world


@pytest.fixture(params=["lane", "bridge", "uvicorn"])
def any_world(built: World, request: pytest.FixtureRequest) -> World:
    """For what uvicorn alone promises, too."""
    world = built.fresh()
    world.door = request.param
    return world
