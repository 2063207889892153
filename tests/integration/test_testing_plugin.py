"""The pytest plugin as its users have it: fixtures of this run, and runs of other projects."""

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import mlflow.deployments
import openai
import pandas as pd
import psutil
import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, NotFound, PermissionDenied, Unauthenticated
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.serving import EndpointStateConfigUpdate, EndpointStateReady
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from lakeport import Client, InvalidInput, LakeportError, NotReady
from lakeport.testing import Workspace
from tests.integration.server import wait_for

HELLO = [{"role": "user", "content": "hello"}]
#: An application as the guide teaches it: its client is made when it is imported.
APP = """
from databricks.sdk import WorkspaceClient

client = WorkspaceClient()

def score(rows):
    return client.serving_endpoints.query("fraud", dataframe_records=rows).predictions
"""


@pytest.fixture(scope="session", autouse=True)
def _environment_before() -> dict[str, str]:
    """Autouse, so that it is there before the session's workspace."""
    return dict(os.environ)


@pytest.fixture(scope="module", autouse=True)
def _environment_of_this_file_only(_environment_before: dict[str, str]) -> Iterator[None]:
    """The session's workspace keeps its environment until the end: other files have others."""
    yield
    os.environ.clear()
    os.environ.update(_environment_before)


@pytest.fixture
def sdk(lakeport_workspace: Workspace) -> WorkspaceClient:
    return WorkspaceClient()


@pytest.fixture
def openai_client(lakeport_workspace: Workspace) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=lakeport_workspace.openai_url, api_key=lakeport_workspace.token, max_retries=0
    ) as client:
        yield client


def post(workspace: Workspace, name: str) -> requests.Response:
    """One call, without any client's tries."""
    return requests.post(
        f"{workspace.url}/serving-endpoints/{name}/invocations",
        json={"inputs": 1},
        headers={"Authorization": f"Bearer {workspace.token}"},
        timeout=20,
    )


# --- functions ----------------------------------------------------------------------------------


def test_every_client_reaches_a_function_of_the_test(
    lakeport_workspace: Workspace, sdk: WorkspaceClient, openai_client: openai.OpenAI
) -> None:
    here = threading.get_ident()
    seen: list[int] = []

    def total(frame: Any) -> list[int]:
        seen.append(threading.get_ident())
        return [int(frame["a"].sum())]

    lakeport_workspace.serve(total, name="total")
    lakeport_workspace.serve(
        lambda body: body["messages"][-1]["content"].upper(), name="loud", task="llm/v1/chat"
    )
    deployments = mlflow.deployments.get_deploy_client("databricks")
    rows = [{"a": 1}, {"a": 2}]

    assert sdk.serving_endpoints.query("total", dataframe_records=rows).predictions == [3]
    asked = {"dataframe_records": rows}
    assert deployments.predict(endpoint="total", inputs=asked)["predictions"] == [3]
    answer = openai_client.chat.completions.create(model="loud", messages=HELLO)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == "HELLO"
    assert len(seen) == 2
    assert here not in seen
    calls = lakeport_workspace.calls("total")
    assert [call.request for call in calls] == [asked, asked]
    assert {call.status for call in calls} == {200}
    assert [call.endpoint for call in lakeport_workspace.calls()] == ["total", "total", "loud"]
    assert sdk.serving_endpoints.get("loud").task == "llm/v1/chat"


def test_a_stream_comes_as_the_function_yields_it(
    lakeport_workspace: Workspace, openai_client: openai.OpenAI
) -> None:
    read = threading.Event()

    async def words(body: dict[str, Any]) -> Any:
        yield "one "
        read.wait(20)  # blocks the functions' loop, not the test
        yield "two"

    lakeport_workspace.serve(words, name="words", task="llm/v1/chat")

    said = []
    messages: Any = HELLO
    stream = openai_client.chat.completions.create(model="words", messages=messages, stream=True)
    for event in stream:
        said.append(event.choices[0].delta.content)
        read.set()

    assert said == ["one ", "two", None]
    assert lakeport_workspace.calls("words")[0].stream


def test_what_a_function_raises_is_a_400_and_is_shown_to_the_test(
    lakeport_workspace: Workspace, sdk: WorkspaceClient
) -> None:
    error = KeyError("of the test")

    def fails(_: Any) -> None:
        raise error

    lakeport_workspace.serve(fails, name="fails")

    with pytest.raises(BadRequest) as caught:
        sdk.serving_endpoints.query("fails", inputs=[1])

    assert "of the test" not in str(caught.value)
    assert lakeport_workspace.calls("fails")[0].error is error


def test_our_own_client_needs_no_arguments(lakeport_workspace: Workspace) -> None:
    lakeport_workspace.serve(lambda values: [value + 1 for value in values], name="next")

    with Client() as client:
        assert client.query("next", inputs=[1]).body == {"predictions": [2]}
    assert lakeport_workspace.client.get("next").ready


def test_a_served_name_is_served_anew(lakeport_workspace: Workspace, sdk: WorkspaceClient) -> None:
    lakeport_workspace.serve(lambda _: "old", name="one")
    lakeport_workspace.serve(lambda _: "new", name="one")

    assert sdk.serving_endpoints.query("one", inputs=1).predictions == "new"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("what", [7, "no-folder", "models:/no-version"])
def test_what_cannot_be_served_is_refused(lakeport_workspace: Workspace, what: object) -> None:
    with pytest.raises(TypeError, match="cannot be served"):
        lakeport_workspace.serve(what, name="x")


def test_a_scripted_chat(lakeport_workspace: Workspace, openai_client: openai.OpenAI) -> None:
    lakeport_workspace.chat("bot", {"hello": "Hi!", "busy": {"status": 429}}, default="What?")

    def say(text: str) -> str | None:
        messages: Any = [{"role": "user", "content": text}]
        answer = openai_client.chat.completions.create(model="bot", messages=messages)
        return answer.choices[0].message.content

    assert (say("well, hello"), say("bye")) == ("Hi!", "What?")
    with pytest.raises(openai.RateLimitError):
        say("busy?")
    with pytest.raises(LakeportError, match="rules"):
        lakeport_workspace.chat("bot", {"rules": [{"nonsense": 1}]})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fitted_models_and_registered_ones(
    lakeport_workspace: Workspace, sdk: WorkspaceClient, tmp_path: Path
) -> None:
    from mlflow.pyfunc import PythonModel

    class Tripled(PythonModel):
        """Of this module, which no worker can import."""

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return _tripled(model_input)

    fitted = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    lakeport_workspace.serve(fitted, name="doubled")
    lakeport_workspace.serve(Tripled(), name="tripled")
    query = sdk.serving_endpoints.query

    assert query("doubled", inputs=[[3.0]]).predictions == pytest.approx([6.0])
    assert query("tripled", inputs=[1, 2]).predictions == [3, 6]

    mlflow.set_experiment("fitted")  # MLflow remembers the one of whatever test ran before
    logged = mlflow.sklearn.log_model(
        fitted, name="m", registered_model_name="reg", pip_requirements=[]
    )
    mlflow.MlflowClient().set_registered_model_alias("reg", "best", "1")
    lakeport_workspace.serve("models:/reg@best", name="registered")

    assert query("registered", inputs=[[3.0]]).predictions == pytest.approx([6.0])
    entities = sdk.serving_endpoints.get("registered").config.served_entities  # type: ignore[union-attr]
    assert entities is not None
    assert (entities[0].entity_name, entities[0].entity_version) == ("reg", "1")

    # Over the registered one, by the name that MLflow gave it.
    lakeport_workspace.serve(logged.model_uri, name="registered")

    assert query("registered", inputs=[[3.0]]).predictions == pytest.approx([6.0])


@pytest.mark.slow
def test_a_model_of_the_applications_own_package(
    lakeport_workspace: Workspace,
    sdk: WorkspaceClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = tmp_path / "shop_of_a_test"
    package.mkdir()
    (package / "prices.py").write_text(
        "def doubled(rows): return [[2 * value for value in row] for row in rows]\n"
    )
    (package / "steps.py").write_text(
        "from sklearn.base import BaseEstimator, TransformerMixin\n"
        "from shop_of_a_test.prices import doubled\n"
        "class Doubled(TransformerMixin, BaseEstimator):\n"
        "    def fit(self, X, y=None): return self\n"
        "    def transform(self, X): return doubled(X)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    steps = importlib.import_module("shop_of_a_test.steps")
    model = make_pipeline(steps.Doubled(), LinearRegression()).fit([[0.0], [1.0]], [0.0, 2.0])

    lakeport_workspace.serve(model, name="own")

    assert sdk.serving_endpoints.query("own", inputs=[[3.0]]).predictions == pytest.approx([6.0])


@pytest.mark.slow
def test_a_model_that_does_not_load_says_why(lakeport_workspace: Workspace, tmp_path: Path) -> None:
    from mlflow.pyfunc import PythonModel

    class Broken(PythonModel):
        def load_context(self, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            raise RuntimeError("the reason why")

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return model_input

    with pytest.raises(NotReady, match="the reason why"):
        lakeport_workspace.serve(Broken(), name="broken")


def _tripled(values: Any) -> list[int]:
    return [int(value) * 3 for value in values]


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequest),
        (401, Unauthenticated),
        (403, PermissionDenied),
        (404, NotFound),
        (500, DatabricksError),
    ],
)
def test_the_sdk_raises_what_a_fault_says(
    lakeport_workspace: Workspace, sdk: WorkspaceClient, status: int, error: type[Exception]
) -> None:
    lakeport_workspace.serve(lambda _: 1, name="one")

    with lakeport_workspace.fault("one", status) as fault, pytest.raises(error):
        sdk.serving_endpoints.query("one", inputs=1)

    assert sdk.serving_endpoints.query("one", inputs=1).predictions == 1  # type: ignore[comparison-overlap]
    assert [call.fault for call in lakeport_workspace.calls("one")] == [fault.id, None]


def test_a_fault_for_some_calls_and_what_is_left_of_it(
    lakeport_workspace: Workspace, sdk: WorkspaceClient
) -> None:
    function = lambda _: 1  # noqa: E731
    lakeport_workspace.serve(function, name="one")

    fault = lakeport_workspace.fault("one", status=429, retry_after=1, times=2)
    first = post(lakeport_workspace, "one")

    assert (first.status_code, first.headers["Retry-After"]) == (429, "1")
    assert (fault.hits, fault.left) == (1, 1)
    # The SDK tries again, and the third call is let through.
    assert sdk.serving_endpoints.query("one", inputs=1).predictions == 1  # type: ignore[comparison-overlap]
    assert [call.status for call in lakeport_workspace.calls("one")] == [429, 429, 200]
    assert (fault.hits, fault.left) == (2, 0)


def test_broken_late_and_unreadable_answers(
    lakeport_workspace: Workspace, openai_client: openai.OpenAI
) -> None:
    lakeport_workspace.chat("bot", {"hello": "Hello, and good day to you!"})

    def ask(**more: Any) -> Any:
        return openai_client.chat.completions.create(model="bot", messages=HELLO, **more)  # type: ignore[arg-type]

    events: list[Any] = []
    with lakeport_workspace.cut("bot", after=2), pytest.raises(openai.APIError):
        events.extend(ask(stream=True))
    assert len(lakeport_workspace.calls("bot")) == 1
    with lakeport_workspace.cut("bot"), pytest.raises(openai.APIConnectionError):
        ask()
    with lakeport_workspace.timeout("bot"), pytest.raises(openai.APITimeoutError):
        ask(timeout=0.2)
    with lakeport_workspace.timeout("bot", seconds=0.1), pytest.raises(openai.InternalServerError):
        ask()
    with lakeport_workspace.bad_json("bot"), pytest.raises(ValueError, match=r"JSON|Expecting"):
        ask()
    with lakeport_workspace.slow("bot", 0.3), lakeport_workspace.wake("bot", 0.3, times=1):
        assert ask().choices
    assert lakeport_workspace.calls("bot")[-1].seconds >= 0.3  # type: ignore[operator]


def test_any_state_can_be_shown(lakeport_workspace: Workspace, sdk: WorkspaceClient) -> None:
    lakeport_workspace.serve(lambda _: 1, name="one")

    with lakeport_workspace.state("one", config_update="UPDATE_FAILED"):
        shown = sdk.serving_endpoints.get("one").state
        listed = next(iter(sdk.serving_endpoints.list())).state
    with lakeport_workspace.state("one", ready=False, config_update="IN_PROGRESS") as fault:
        not_ready = sdk.serving_endpoints.get("one").state
        refused = post(lakeport_workspace, "one")
        fault.clear()
        waited = sdk.serving_endpoints.wait_get_serving_endpoint_not_updating("one").state

    assert shown is not None
    assert listed is not None
    assert not_ready is not None
    assert waited is not None
    failed = EndpointStateConfigUpdate.UPDATE_FAILED
    assert (shown.config_update, listed.config_update) == (failed, failed)
    assert refused.status_code == 503
    assert not_ready.ready is EndpointStateReady.NOT_READY
    assert waited.ready is EndpointStateReady.READY


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"status": 418}, "status"), ({"status": 429, "times": 0}, "times"), ({"kind": "x"}, "kind")],
)
def test_a_fault_that_is_none_is_refused_by_its_field(
    lakeport_workspace: Workspace, wrong: dict[str, Any], named: str
) -> None:
    lakeport_workspace.chat("bot")

    with pytest.raises(LakeportError, match=named):
        lakeport_workspace.fault("bot", **wrong)


# --- one test's world ---------------------------------------------------------------------------


def test_what_a_test_left_is_gone(lakeport_session_workspace: Workspace) -> None:
    session = lakeport_session_workspace._session
    workspace = Workspace(session)
    before = dict(os.environ)

    with session.isolated(), session.entered():
        workspace.serve(lambda _: 1, name="of-one-test")
        workspace.chat("chat-of-one-test")
        workspace.fault("of-one-test", 500)
        with pytest.raises(DatabricksError):
            WorkspaceClient().serving_endpoints.query("of-one-test", inputs=1)
        assert workspace.calls()

    with session.isolated(), session.entered():
        assert not list(WorkspaceClient().serving_endpoints.list())
        assert not session.faults()
        assert not workspace.calls()
    assert dict(os.environ) == before


def test_clear_takes_faults_and_calls_and_leaves_the_endpoints(
    lakeport_workspace: Workspace,
) -> None:
    for name in ("one", "two"):
        lakeport_workspace.serve(Mock(side_effect=KeyError(name)), name=name)
        assert post(lakeport_workspace, name).status_code == 400
        lakeport_workspace.fault(name, 503)

    lakeport_workspace.clear("one")

    assert post(lakeport_workspace, "one").status_code == 400
    assert post(lakeport_workspace, "two").status_code == 503
    calls = [(call.endpoint, type(call.error)) for call in lakeport_workspace.calls()]
    assert calls == [("two", KeyError), ("one", KeyError), ("two", type(None))]
    lakeport_workspace.clear()
    assert post(lakeport_workspace, "two").status_code == 400
    assert len(lakeport_workspace.calls()) == 1


def test_endpoints_of_the_session_outlive_a_test(lakeport_session_workspace: Workspace) -> None:
    lakeport_session_workspace.serve(lambda _: 1, name="shared")

    with lakeport_session_workspace._session.isolated():
        lakeport_session_workspace.serve(lambda _: 2, name="single")

    names = [endpoint.name for endpoint in WorkspaceClient().serving_endpoints.list()]
    lakeport_session_workspace.delete("shared")
    assert names == ["shared"]


def test_a_child_process_finds_the_workspace(
    lakeport_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "mine")
    lakeport_workspace.chat("bot", {"hello": "Hi!"})
    program = (
        "import os; from databricks.sdk import WorkspaceClient\n"
        "print([e.name for e in WorkspaceClient().serving_endpoints.list()])\n"
        "print('DATABRICKS_CLIENT_SECRET' in os.environ)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=lakeport_workspace.env(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split("\n")[:2] == ["['bot']", "False"]


# --- runs of other projects ---------------------------------------------------------------------


def project(folder: Path, tests: str, *, ini: str = "", conftest: str = "") -> Path:
    (folder / "app.py").write_text(APP)
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_app.py").write_text(tests)
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = .\n{ini}\n")
    home = folder / "home"
    home.mkdir()
    (home / ".databrickscfg").write_text("[DEFAULT]\nhost = https://real.example\ntoken = real\n")
    return folder


def command(*arguments: str) -> list[str]:
    # Only the plugins that matter: each of the others takes its time to load.
    plugins = ["-p", "lakeport.testing.plugin"]
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins, *arguments]


def of_a_user(folder: Path) -> dict[str, str]:
    """The environment of somebody who works with a real workspace."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    del ours["DATABRICKS_CONFIG_FILE"]
    return ours | {
        "HOME": str(folder / "home"),
        # What a killed run leaves is pytest's to remove; and it is too deep for a socket's path.
        "TMPDIR": str(folder),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DATABRICKS_HOST": "https://real.example",
        "DATABRICKS_CLIENT_ID": "me",
        "DATABRICKS_CLIENT_SECRET": "mine",
        "ARM_CLIENT_ID": "mine too",
        "MLFLOW_TRACKING_URI": "databricks",
    }


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=of_a_user(folder),
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_application_that_makes_its_client_at_import(tmp_path: Path) -> None:
    folder = project(
        tmp_path,
        """
import os
import app

def test_app(lakeport_workspace):
    lakeport_workspace.serve(lambda frame: frame["amount"] > 100, name="fraud")
    assert app.score([{"amount": 500}]) == [{"amount": True}]

def test_other(request):
    assert app.client.config.host == os.environ["DATABRICKS_HOST"]
    assert "DATABRICKS_CLIENT_ID" not in os.environ
""",
        conftest="import app\n",
    )

    done = run(folder, "--lakeport", "-v")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "lakeport: http://127.0.0.1:" in done.stdout


def test_each_worker_of_xdist_has_a_workspace_of_its_own(tmp_path: Path) -> None:
    folder = project(
        tmp_path,
        """
import os
import app
import pytest

@pytest.mark.parametrize("number", range(2))
def test_app(lakeport_workspace, number, worker_id):
    open(f"url-{worker_id}", "w").write(lakeport_workspace.url)
    assert app.client.config.host == lakeport_workspace.url
    lakeport_workspace.serve(lambda frame: [number], name="fraud")
    assert app.score([{"amount": 500}]) == [number]
    assert len(lakeport_workspace.calls()) == 1
""",
        ini="lakeport = true",
    )

    done = run(folder, "-p", "xdist", "-n", "2", "--dist", "each")

    assert done.returncode == 0, done.stdout + done.stderr
    urls = {file.read_text() for file in folder.glob("url-*")}
    assert len(urls) == 2


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho the reason why\nexit 3\n")
    python.chmod(0o755)
    folder = project(
        tmp_path, "def test_app(lakeport_workspace): ...", ini=f"lakeport_python = {python}"
    )

    late = run(folder)
    early = run(folder, "--lakeport")

    for said in (late.stdout, early.stderr):
        assert "server ended with" in said
        assert "the reason why" in said
    assert (late.returncode, early.returncode) == (1, 4)
    assert "Traceback" not in late.stdout + early.stderr
    assert "During handling" not in late.stdout


def test_nothing_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    folder = project(
        tmp_path,
        """
import time

def test_app(lakeport_workspace):
    open("began", "w").close()
    time.sleep(120)
""",
    )
    with subprocess.Popen(
        command(), cwd=folder, env=of_a_user(folder), stdout=subprocess.DEVNULL
    ) as pytest_:
        wait_for((folder / "began").exists, what="a test that began")
        family = psutil.Process(pytest_.pid).children(recursive=True)
        assert len(family) >= 2  # the guard and the server
        pytest_.send_signal(signal.SIGKILL)

    gone, alive = psutil.wait_procs(family, timeout=20)

    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert gone or alive
    assert not list(folder.glob("lakeport-*"))


def test_a_functions_signature_is_shown_and_checked(lakeport_workspace: Workspace) -> None:
    frame = pd.DataFrame({"amount": [1.5], "country": ["de"]})
    lakeport_workspace.serve(
        lambda rows: (rows["amount"] * 2).tolist(),
        name="doubles",
        signature=infer_signature(frame, [3.0]),
    )

    signature = lakeport_workspace.client.signature("doubles")
    assert signature.names == ("amount", "country")
    assert lakeport_workspace.client.predict("doubles", rows=[[2.0, "fr"]]).predictions == [4.0]
    with pytest.raises(InvalidInput, match="did you mean"):
        lakeport_workspace.client.predict("doubles", records=[{"amuont": 1.0, "country": "de"}])
