"""What every test may rely on: a quiet world without the developer's own settings in it."""

import os
from collections.abc import Iterator

import pytest

#: A host or token that somebody exported must not reach a test, nor a test it.
_FOREIGN = ("DATABRICKS_", "LAKEPORT_", "MLFLOW_")
#: Where tests are told what to use: see the Makefile.
_KEPT = ("LAKEPORT_PARITY_", "LAKEPORT_TEST_")

for name in list(os.environ):
    if name.startswith(_FOREIGN) and not name.startswith(_KEPT):
        del os.environ[name]

# Workers and servers that tests start would compile the world again each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# No client may look outside this machine, or ask git where it is.
os.environ["DATABRICKS_CONFIG_FILE"] = os.devnull
os.environ["DO_NOT_TRACK"] = "true"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

pytest_plugins = ["tests.models.fixtures"]


@pytest.fixture(autouse=True)
def _settings_of_one_test_only() -> Iterator[None]:
    """MLflow keeps the experiment that was chosen last in the environment: the next test's
    programs, which talk to another server, must not inherit it."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_FOREIGN)}
    yield
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        if name not in before:
            del os.environ[name]
    os.environ.update(before)
