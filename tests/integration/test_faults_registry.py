"""The embedded registry killed: serving does not notice, and the registry answers again."""

import psutil
import pytest

from tests.integration.conftest import MODEL, Stock
from tests.integration.load import load
from tests.integration.server import ServerProcess, wait_for, wait_until_gone

BODY = {"inputs": [{"x": 1.0}]}


@pytest.mark.parametrize("whom", ["all", "guard", pytest.param("mlflow", marks=pytest.mark.soak)])
def test_a_killed_registry_comes_back_and_serving_goes_on(
    shared: ServerProcess, stock: Stock, whom: str
) -> None:
    shared.create("served", stock.entity("good", "params"))
    before = shared.registry()
    assert len(before) == 2, "a guard, and MLflow below it"
    guard, mlflow = sorted(before, key=lambda process: process.create_time())

    with load(shared, "served", BODY, threads=2, pause=0.01) as tally:
        for process in {"all": before, "mlflow": [mlflow], "guard": [guard]}[whom]:
            kill(process)
        wait_until_gone(before)
        # The first call after it waits for the registry, which is being started.
        versions = wait_for(
            lambda: (
                shared.client.get(
                    "/api/2.0/mlflow/model-versions/search", params={"filter": f"name='{MODEL}'"}
                )
                .raise_for_status()
                .json()["model_versions"]
            )
        )
        tally.grows_by(20)

    assert not tally.failed, tally
    assert {version["version"] for version in versions} == set(stock.versions.values())
    assert not set(before) & set(shared.registry())
    # An update needs it.
    shared.update("served", stock.entity("better", "params"))
    shared.updated("served")
    shared.call("DELETE", "serving-endpoints/served")


def kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return  # the guard's end was quicker
