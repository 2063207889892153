"""`lakeport demo`: from nothing to served models in under a minute, told while it happens.

The demo is a client: it starts `lakeport serve` as a process of its own and then does what a user
would do, with unmodified clients. It imports mlflow and scikit-learn inside functions: the server
must never load them, and `lakeport --help` must not wait for them.
"""

import http.client
import io
import json
import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lakeport.cli import demo_chat

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.serving import ServedEntityInput

MODEL = ENDPOINT = "wine"
#: Served entities by version, as the demo names them.
OLD, NEW = "wine-1", "wine-2"
CALLERS = 4
#: Requests that show the split, and those that go before and after the update under load.
SPLIT, AROUND = 200, 100
START_SECONDS, STOP_SECONDS = 60, 45


class DemoFailed(Exception):
    """The demo cannot go on; the message is for people."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A running server of the demo's own."""

    address: str
    token: str


@dataclass(frozen=True, slots=True)
class Wines:
    """Rows that no model has seen, with the truth about them."""

    columns: list[str]
    rows: list[list[float]]
    kinds: list[str]


@dataclass(slots=True)
class Tally:
    """What a run of requests came to."""

    answered: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.answered += other.answered
        self.right += other.right
        self.lost += other.lost


def run(*, keep: bool = False, console: Console | None = None) -> int:
    """Play the demo; the exit status is 0 when everything went as it should.

    With `keep` the server stays up until Ctrl-C. Its home is removed at the end either way.
    """
    console = console or Console()
    began = time.monotonic()
    try:
        with (
            _ended_in_order(),
            tempfile.TemporaryDirectory(prefix="lakeport-demo-") as folder,
            _served(Path(folder), console) as workspace,
        ):
            _play(workspace, console)
            console.print(f"\n[bold green]Done in {time.monotonic() - began:.0f} seconds.[/]")
            if keep:
                _stay(workspace, console)
            else:
                console.print(
                    "[dim]`lakeport demo --keep` leaves the server up for you to try; "
                    "docs/quick-start.md goes on from here.[/]"
                )
    except DemoFailed as failure:
        console.print(f"[bold red]The demo failed:[/] {escape(str(failure))}")
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    return 0


def _play(workspace: Workspace, console: Console) -> None:
    with _step(console, "Training two classifiers on the wine data set of scikit-learn"):
        wines, scores = _train_and_register(workspace)
    console.print(
        f"  {MODEL} version 1: nearest centroid, {scores[0]:.0%} right on rows it has not seen\n"
        f"  {MODEL} version 2: logistic regression, {scores[1]:.0%} right"
    )

    client = _client(workspace)
    with _step(console, f"Creating the endpoint [bold]{ENDPOINT}[/] with databricks-sdk"):
        _create(client)
    _show_answers(client, wines, console)

    with _step(console, "Giving version 2 half of the traffic"):
        _route(client, old=50, new=50)
    split = _ask_many(workspace, wines, SPLIT)
    _show_split(split, console)

    with _step(console, "Moving all traffic to version 2, while requests keep coming"):
        moved = _move_under_load(workspace, client, wines)
    _show_move(moved, console)
    if split.lost or moved.lost:
        raise DemoFailed("; ".join(sorted(set(split.lost + moved.lost))[:3]))
    try:
        demo_chat.play(client, workspace.address, workspace.token, console)
    except demo_chat.NoAnswer as problem:
        raise DemoFailed(f"{demo_chat.ENDPOINT}: {problem}") from problem


# --- the server ---------------------------------------------------------------------------------


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does: its server must not outlive it."""
    # One that is ignored stays so: `nohup` means it.
    ours = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _served(folder: Path, console: Console) -> Iterator[Workspace]:
    """`lakeport serve` in `folder`, on a free port, with a token of its own; gone at the end."""
    token = secrets.token_urlsafe(24)
    home, log = folder / "home", folder / "server.log"
    entry = "import sys; from lakeport.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", entry, "serve", "--port", "0", "--home", str(home)]
    command += demo_chat.FLAGS
    # Eager, so that the registry comes up while we import mlflow ourselves.
    ours = {"LAKEPORT_ADMIN_TOKEN": token, "LAKEPORT_REGISTRY": "eager", "PYTHONUNBUFFERED": "1"}
    foreign = ("LAKEPORT_", "MLFLOW_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | ours
    with (
        log.open("wb") as said,
        # A session of its own: Ctrl-C is ours to answer, by ending the server in order.
        subprocess.Popen(
            command, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        ) as server,
    ):
        try:
            with _step(console, "Starting a server in a temporary home"):
                address = _ready(server, log)
            console.print(f"  {address}")
            yield Workspace(address, token)
        finally:
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()


def _ready(server: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the server says its address and is healthy; returns the address."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        said = re.search(r"Lakeport is ready: (http://\S+)", log.read_text(errors="replace"))
        if said and _healthy(said[1]):
            return said[1]
        time.sleep(0.05)
    raise DemoFailed(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _healthy(address: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# --- what a user does ---------------------------------------------------------------------------


def _train_and_register(workspace: Workspace) -> tuple[Wines, list[float]]:
    """Train both versions and register them through the workspace's MLflow; the held-out rows
    and how many of them each version has right."""
    os.environ |= {
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_TRACKING_TOKEN": workspace.token,
        "MLFLOW_TRACKING_URI": workspace.address,
    }
    # Here and not at the top: see the module's docstring.
    try:
        import mlflow
        import sklearn
        from sklearn.datasets import load_wine
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
        from sklearn.neighbors import NearestCentroid
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise DemoFailed(f"{error}. Try: pip install 'lakeport[demo]'") from error

    warnings.filterwarnings("ignore")  # mlflow's hints to authors of models
    logging.getLogger("mlflow").setLevel(logging.ERROR)

    data = load_wine(as_frame=True)
    kinds = data.target.map(dict(enumerate(data.target_names)))
    train, test, train_kinds, test_kinds = train_test_split(
        data.data, kinds, test_size=0.4, random_state=7, stratify=kinds
    )
    versions = {
        "nearest centroid": NearestCentroid(),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
    }
    mlflow.set_experiment("lakeport-demo")
    scores = []
    for name, classifier in versions.items():
        # mlflow tells of each step on stderr; we tell the story ourselves.
        with redirect_stderr(io.StringIO()), mlflow.start_run(run_name=name):
            classifier.fit(train, train_kinds)
            scores.append(float(classifier.score(test, test_kinds)))
            mlflow.log_metric("accuracy", scores[-1])
            mlflow.sklearn.log_model(
                classifier,
                name="model",
                registered_model_name=MODEL,
                signature=mlflow.models.infer_signature(train, train_kinds),
                # Said, not inferred: mlflow would load the model once more to find out.
                pip_requirements=[
                    f"mlflow=={mlflow.__version__}",
                    f"scikit-learn=={sklearn.__version__}",
                ],
            )
    return Wines(list(test.columns), test.to_numpy().tolist(), list(test_kinds)), scores


def _client(workspace: Workspace) -> "WorkspaceClient":
    try:
        from databricks.sdk import WorkspaceClient
    except ImportError as error:
        raise DemoFailed(f"{error}. Try: pip install 'lakeport[demo]'") from error

    return WorkspaceClient(host=workspace.address, token=workspace.token, auth_type="pat")


def _entity(version: int) -> "ServedEntityInput":
    from databricks.sdk.service.serving import ServedEntityInput

    return ServedEntityInput(
        name=f"{MODEL}-{version}",
        entity_name=MODEL,
        entity_version=str(version),
        workload_size="Small",
        scale_to_zero_enabled=False,
    )


def _create(client: "WorkspaceClient") -> None:
    from databricks.sdk.service.serving import EndpointCoreConfigInput

    config = EndpointCoreConfigInput(name=ENDPOINT, served_entities=[_entity(1)])
    client.serving_endpoints.create_and_wait(name=ENDPOINT, config=config)


def _route(client: "WorkspaceClient", *, old: int, new: int) -> None:
    from databricks.sdk.service.serving import Route, TrafficConfig

    shares = {OLD: old, NEW: new}
    client.serving_endpoints.update_config_and_wait(
        name=ENDPOINT,
        served_entities=[_entity(1), _entity(2)],
        traffic_config=TrafficConfig(
            routes=[
                Route(served_entity_name=name, served_model_name=name, traffic_percentage=share)
                for name, share in shares.items()
            ]
        ),
    )


def _move_under_load(workspace: Workspace, client: "WorkspaceClient", wines: Wines) -> Tally:
    """Update the endpoint while callers ask without a pause; what became of their requests."""
    stop = threading.Event()
    tallies = [Tally() for _ in range(CALLERS)]
    threads = [
        threading.Thread(target=_ask_until, args=(workspace, wines, stop, tally), daemon=True)
        for tally in tallies
    ]
    for thread in threads:
        thread.start()
    try:
        _wait_for_answers(tallies, threads, AROUND)
        _route(client, old=0, new=100)
        _wait_for_answers(tallies, threads, sum(_done(tally) for tally in tallies) + AROUND)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    moved = Tally()
    for tally in tallies:
        moved.add(tally)
    return moved


def _done(tally: Tally) -> int:
    return tally.answered.total() + len(tally.lost)


def _wait_for_answers(tallies: list[Tally], threads: list[threading.Thread], number: int) -> None:
    while sum(_done(tally) for tally in tallies) < number:
        if not any(thread.is_alive() for thread in threads):
            raise DemoFailed("the callers stopped asking")
        time.sleep(0.02)


# --- requests in plain HTTP ---------------------------------------------------------------------


def _ask_many(workspace: Workspace, wines: Wines, number: int) -> Tally:
    tally = Tally()
    connection = _connect(workspace)
    for turn in range(number):
        _ask(connection, workspace, wines, turn, tally)
    connection.close()
    return tally


def _ask_until(workspace: Workspace, wines: Wines, stop: threading.Event, tally: Tally) -> None:
    connection = _connect(workspace)
    turn = 0
    while not stop.is_set():
        _ask(connection, workspace, wines, turn, tally)
        turn += 1
    connection.close()


def _connect(workspace: Workspace) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(workspace.address).netloc, timeout=60)


def _ask(
    connection: http.client.HTTPConnection,
    workspace: Workspace,
    wines: Wines,
    turn: int,
    tally: Tally,
) -> None:
    """Ask about one wine and note who answered, whether they were right, or what went wrong."""
    which = turn % len(wines.rows)
    body = {"dataframe_split": {"columns": wines.columns, "data": [wines.rows[which]]}}
    headers = {"Authorization": f"Bearer {workspace.token}", "Content-Type": "application/json"}
    try:
        connection.request(
            "POST", f"/serving-endpoints/{ENDPOINT}/invocations", json.dumps(body), headers
        )
        reply = connection.getresponse()
        answer = reply.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()  # the next request opens it again
        tally.lost.append(f"no answer: {error!r}")
        return
    if reply.status != http.HTTPStatus.OK:
        tally.lost.append(f"HTTP {reply.status}: {answer[:200].decode(errors='replace')}")
        return
    served = reply.headers.get("served-model-name", "unknown")
    tally.answered[served] += 1
    tally.right[served] += json.loads(answer)["predictions"] == [wines.kinds[which]]


# --- what a person sees -------------------------------------------------------------------------


@contextmanager
def _step(console: Console, title: str) -> Iterator[None]:
    began = time.monotonic()
    with console.status(f"{title} ..."):
        yield
    console.print(f"[green]✓[/] {title} [dim]{time.monotonic() - began:.1f} s[/]")


def _show_answers(client: "WorkspaceClient", wines: Wines, console: Console) -> None:
    """Three wines, asked through the SDK."""
    from databricks.sdk.service.serving import DataframeSplitInput

    few = range(3)
    asked = DataframeSplitInput(columns=wines.columns, data=[wines.rows[i] for i in few])
    answer = client.serving_endpoints.query(name=ENDPOINT, dataframe_split=asked)
    table = Table(
        "alcohol", "colour", "answer", "truth", title="Three wines, one query", min_width=44
    )
    alcohol, colour = wines.columns.index("alcohol"), wines.columns.index("color_intensity")
    for i, prediction in zip(few, answer.predictions or [], strict=True):
        row = wines.rows[i]
        table.add_row(f"{row[alcohol]:.1f}", f"{row[colour]:.1f}", str(prediction), wines.kinds[i])
    console.print(table)


def _show_split(tally: Tally, console: Console) -> None:
    table = Table("served-model-name", "requests", "right", title="Who answered", min_width=44)
    for name in sorted(tally.answered):
        number = tally.answered[name]
        table.add_row(name, str(number), f"{tally.right[name] / number:.0%}")
    console.print(table)


def _show_move(tally: Tally, console: Console) -> None:
    answered = ", ".join(f"{number} by {name}" for name, number in sorted(tally.answered.items()))
    colour = "red" if tally.lost else "green"
    console.print(
        f"  {_done(tally)} requests from {CALLERS} callers: {answered}, "
        f"[bold {colour}]{len(tally.lost)} lost[/]"
    )


def _stay(workspace: Workspace, console: Console) -> None:
    exports = {
        "DATABRICKS_HOST": workspace.address,
        "DATABRICKS_TOKEN": workspace.token,
        "MLFLOW_TRACKING_URI": workspace.address,
        "MLFLOW_TRACKING_TOKEN": workspace.token,
    }
    # Plain lines, neither framed nor folded: they are there to be copied.
    console.print("\nIn another terminal:\n")
    for name, value in exports.items():
        print(f"export {name}={value}")
    asked = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 40}
    print(
        f'curl -H "Authorization: Bearer $DATABRICKS_TOKEN" '
        f"$DATABRICKS_HOST/api/2.0/serving-endpoints/{ENDPOINT}\n"
        f'curl -H "Authorization: Bearer $DATABRICKS_TOKEN" '
        f"$DATABRICKS_HOST/serving-endpoints/{demo_chat.ENDPOINT}/invocations "
        f"-H 'Content-Type: application/json' -d '{json.dumps(asked)}'\n",
        flush=True,
    )
    console.print("The server runs until you press Ctrl-C; then its home is removed.")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
