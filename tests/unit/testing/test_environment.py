"""What an application finds in its environment, and what it must not."""

import os
from configparser import ConfigParser
from pathlib import Path

import pytest

from lakeport.testing import environment

URL = "http://127.0.0.1:4321"


def of(given: dict[str, str]) -> dict[str, str]:
    return environment.variables(
        given, url=URL, token="t" * 20, profiles=Path("/there/profiles"), http_timeout=7
    )


def test_nothing_of_the_users_own_workspace_is_left() -> None:
    mine = {
        "DATABRICKS_CLIENT_ID": "me",
        "DATABRICKS_CLIENT_SECRET": "mine",
        "DATABRICKS_HOST": "https://real",
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_EXPERIMENT_ID": "77",
    }

    made = of(mine)

    assert made["DATABRICKS_HOST"] == made["MLFLOW_TRACKING_URI"] == URL
    assert not {"me", "mine", "https://real", "77"} & set(made.values())


def test_all_else_stays() -> None:
    made = of({"PATH": "/bin", "OPENAI_API_KEY": "sk", "HOME": "/me"})

    assert (made["PATH"], made["OPENAI_API_KEY"], made["HOME"]) == ("/bin", "sk", "/me")
    assert "OPENAI_BASE_URL" not in made


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, "127.0.0.1"), ({"NO_PROXY": "a,b"}, "a,b,127.0.0.1"), ({"NO_PROXY": "127.0.0.1"}, None)],
)
def test_a_proxy_is_not_asked_for_this_machine(before: dict[str, str], after: str | None) -> None:
    made = of({"HTTP_PROXY": "http://proxy", **before})

    assert made["NO_PROXY"] == (after or before["NO_PROXY"])
    assert made["no_proxy"] == "127.0.0.1"


def test_the_profile_bounds_the_sdk() -> None:
    read = ConfigParser()
    read.read_string(environment.profiles_text(url=URL, token="secret", http_timeout=7))

    profile = read[environment.PROFILE]
    assert profile["host"] == URL
    assert (profile["retry_timeout_seconds"], profile["http_timeout_seconds"]) == ("5", "7")


def test_it_is_put_back_whatever_was_done_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "me")
    monkeypatch.setenv("OTHER", "1")
    monkeypatch.delenv("DATABRICKS_TOKEN", raising=False)
    before = dict(os.environ)

    def change() -> None:
        with environment.applied(of(dict(os.environ))):
            assert "DATABRICKS_CLIENT_ID" not in os.environ
            assert os.environ["DATABRICKS_HOST"] == URL
            os.environ["DATABRICKS_CLIENT_ID"] = "another"
            os.environ["MLFLOW_RUN_ID"] = "run"
            del os.environ["DATABRICKS_HOST"]
            raise KeyError

    with pytest.raises(KeyError):
        change()

    assert dict(os.environ) == before


def test_what_a_test_patches_in_it_is_put_back_too() -> None:
    before = dict(os.environ)

    with (
        pytest.MonkeyPatch.context() as monkeypatch,  # set up before, undone after
        environment.applied(of(dict(os.environ)), monkeypatch),
    ):
        monkeypatch.setenv("DATABRICKS_HOST", "https://other")
        monkeypatch.setenv("DATABRICKS_NEW", "1")
        monkeypatch.delenv("DATABRICKS_TOKEN")

    assert dict(os.environ) == before
