"""The environment in which an application finds the test workspace, and nothing else.

The OpenAI client's own variables are left alone: in an application they mean OpenAI's service, and
tests that stand in for that would break. `Workspace.openai_url` is for a client of this workspace.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

PROFILE: Final = "lakeport"
#: Seconds for which databricks-sdk tries again; 300 by default, which no test wants to wait.
RETRY_SECONDS: Final = 5
#: Of these all variables are ours while a workspace is there.
_PREFIXES = ("DATABRICKS_", "MLFLOW_")
_NO_PROXY = ("NO_PROXY", "no_proxy")
_HERE = "127.0.0.1"


def variables(
    given: Mapping[str, str], *, url: str, token: str, profiles: Path, http_timeout: int
) -> dict[str, str]:
    """A whole environment, made from a given one.

    Every DATABRICKS_* and MLFLOW_* variable is left out but ours: a client id beside a token, say,
    makes databricks-sdk refuse both. `profiles` takes the place of `~/.databrickscfg`.
    """
    kept = {name: value for name, value in given.items() if not name.startswith(_PREFIXES)}
    for name in _NO_PROXY:
        # A proxy would be asked for this machine too.
        hosts = [host for host in kept.get(name, "").split(",") if host.strip()]
        if _HERE not in hosts:
            kept[name] = ",".join([*hosts, _HERE])
    return kept | {
        "DATABRICKS_HOST": url,
        "DATABRICKS_TOKEN": token,
        # A cloud's own variables (ARM_CLIENT_ID …) would count as a second way in, and be refused.
        "DATABRICKS_AUTH_TYPE": "pat",
        "DATABRICKS_CONFIG_FILE": str(profiles),
        "DATABRICKS_CONFIG_PROFILE": PROFILE,
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_REGISTRY_URI": url,
        "MLFLOW_TRACKING_TOKEN": token,
        # Seven tries with longer and longer waits are minutes.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        # The second is a bound on all tries; MLflow warns when it is below the first.
        "MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT": str(http_timeout),
        "MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT": str(http_timeout),
        # A test tells nobody that it ran.
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def profiles_text(*, url: str, token: str, http_timeout: int) -> str:
    """A `.databrickscfg` whose profiles bound how long databricks-sdk tries."""
    lines = (
        f"host = {url}",
        f"token = {token}",
        f"retry_timeout_seconds = {RETRY_SECONDS}",
        f"http_timeout_seconds = {http_timeout}",
    )
    return "\n".join(["[DEFAULT]", *lines, "", f"[{PROFILE}]", *lines, ""])


@contextmanager
def applied(
    wanted: Mapping[str, str], monkeypatch: "pytest.MonkeyPatch | None" = None
) -> Iterator[None]:
    """This process's environment is `wanted` as far as it is ours to set. At the end those
    variables are as they were, whatever was done to them meanwhile.

    `monkeypatch`: where a test has one that is undone later, it is told how the variables were;
    undoing what the test did would bring ours back.
    """
    before = _ours(os.environ)
    try:
        if monkeypatch is not None:
            _record(_ours(wanted), monkeypatch)
        _become(_ours(wanted))
        yield
    finally:
        _become(before)


def _record(wanted: Mapping[str, str], monkeypatch: "pytest.MonkeyPatch") -> None:
    for name in _ours(os.environ).keys() | wanted.keys():
        if name in wanted:
            monkeypatch.setenv(name, wanted[name])
        else:
            monkeypatch.delenv(name)


def _ours(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_PREFIXES) or name in _NO_PROXY
    }


def _become(wanted: Mapping[str, str]) -> None:
    for name in _ours(os.environ).keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
