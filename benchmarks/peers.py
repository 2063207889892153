"""What a user could pick instead of Lakeport, each at the version and with the settings named here.

Each is installed into an environment of its own under a cache folder. All get two workers, and
batching where they have it: their best, as far as that can be had on two cores. `benchmarks/apps`
has the file that each one's documentation asks for; they load the same estimator from one file.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import servers
from installs import first_on_path, folder_name, install
from models import Form, SavedModel
from servers import Peer, free_port

WORKERS = 2
#: Requests that those who batch may join.
BATCH = 64

_APPS = Path(__file__).parent / "apps"
#: At the versions of the environment that makes the models, so that all compute with the same.
_SHARED = ("scikit-learn", "xgboost", "numpy", "joblib")
_ONE_BY_ONE = "predicts on its event loop, one request at a time"
_NEVER_ALONE = "always joins requests"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one is installed, started and asked."""

    #: Of the environment, which several may share.
    environment: str
    requirements: tuple[str, ...]
    #: {bin}, {port} and {folder} are filled in; so they are in the values of `settings`.
    command: str
    path: str
    form: Form
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Those for models whose requests may be joined.
    batching: Mapping[str, str] = field(default_factory=dict)
    #: Writes what it wants to find in its folder.
    prepare: Callable[[SavedModel, Path, int], None] = lambda model, folder, port: None
    #: Models that it is not asked about, and why.
    without: Mapping[str, str] = field(default_factory=dict)

    def peer(self, name: str, model: SavedModel, folder: Path, cache: Path) -> Peer:
        """It serving the model from `folder`, installed if need be. Raises NotInstalled."""
        pinned = (*self.requirements, *(f"{each}=={version(each)}" for each in _SHARED))
        bin = install(cache, folder_name(self.environment, pinned), *pinned)
        port = free_port()
        self.prepare(model, folder, port)
        known = {"bin": str(bin), "port": str(port), "folder": str(folder)}
        settings = {**self.settings, **(self.batching if model.merged else {})}
        environment = {
            "BENCH_MODEL": str(model.estimator),
            "BENCH_PORT": str(port),
            "BENCH_NUMBERS": "yes" if model.numbers else "",
            "BENCH_WORKERS": str(WORKERS),
            "PYTHONPATH": str(_APPS),
            **first_on_path(bin),
            **{key: value.format_map(known) for key, value in settings.items()},
        }
        command = self.command.format_map(known).split()
        return Peer(name, command, port, self.path, environment, form=self.form)


def _mlserver_settings(model: SavedModel, folder: Path, port: int) -> None:
    """In process: its parallel workers make small models slower on two cores."""
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    served = {
        "name": "m",
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "parameters": {"uri": str(model.folder)},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(served))


_WEB = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "orjson==3.13.0", "pandas")


def _by_hand(app: str, workers: int, without: Mapping[str, str] | None = None) -> Recipe:
    """A FastAPI application of the user's own."""
    return Recipe(
        "web",
        _WEB,
        "{bin}/uvicorn --host 127.0.0.1 --port {port} --no-access-log --log-level warning "
        f"--workers {workers} {app}:app",
        "/predict",
        "input",
        without=without or {},
    )


_BENTOML = Recipe(
    "bentoml",
    ("bentoml==1.4.40", "pandas"),
    "{bin}/bentoml serve bento_app:Svc --host 127.0.0.1 -p {port}",
    "/predict",
    "input",
    {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "{folder}/bento"},
)
_RECIPES: Mapping[str, Recipe] = {
    # What MLflow's `--enable-mlserver` started while it had that option.
    "mlserver": Recipe(
        "mlserver",
        ("mlserver==1.7.1", "mlserver-mlflow==1.7.1", "uvloop<0.22"),
        "{bin}/mlserver start {folder}",
        "/invocations",
        "dataframe_split",
        {"MLFLOW_TRACKING_URI": "sqlite://", "MLFLOW_DISABLE_TELEMETRY": "true"},
        prepare=_mlserver_settings,
    ),
    "kserve": Recipe(
        "kserve",
        ("kserve==0.21.0",),
        f"{{bin}}/python {_APPS}/kserve_app.py --http_port {{port}} --workers {WORKERS} "
        "--configure_logging False",
        "/v1/models/m:predict",
        "instances",
    ),
    "bentoml": _BENTOML,
    "bentoml-batch": Recipe(
        _BENTOML.environment,
        _BENTOML.requirements,
        _BENTOML.command,
        _BENTOML.path,
        _BENTOML.form,
        {**_BENTOML.settings, "BENCH_BATCH": str(BATCH)},
        without={
            "mixed": "joins arrays of numbers only",
            "python-rows": "joins arrays of numbers only",
            "python": _NEVER_ALONE,
            "sleep": _NEVER_ALONE,
        },
    ),
    "litserve": Recipe(
        "litserve",
        ("litserve==0.2.19", "pandas"),
        f"{{bin}}/python {_APPS}/lit_app.py",
        "/predict",
        "input",
        batching={"BENCH_BATCH": str(BATCH)},
    ),
    "ray": Recipe(
        "ray",
        ("ray[serve]==2.60.0", "pandas"),
        f"{{bin}}/python {_APPS}/ray_app.py",
        "/predict",
        "input",
        {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        {"BENCH_BATCH": str(BATCH)},
    ),
    "fastapi": _by_hand("fastapi_plain", 1),
    "fastapi-2": _by_hand("fastapi_plain", 2),
    "fastapi-tuned": _by_hand("fastapi_tuned", 1, {"sleep": _ONE_BY_ONE}),
    "fastapi-tuned-2": _by_hand("fastapi_tuned", 2, {"sleep": _ONE_BY_ONE}),
    "lean": Recipe(
        "web",
        _WEB,
        f"{{bin}}/python {_APPS}/lean.py {{port}}",
        "/",
        "dataframe_split",
        without={"python": _NEVER_ALONE, "sleep": _NEVER_ALONE},
    ),
}

#: Serving frameworks, and with them the applications that people write by hand, and the bare
#: prototype, which is no product.
FRAMEWORKS = ("mlflow", "mlserver", "kserve", "bentoml", "bentoml-batch", "litserve", "ray")
BY_HAND = ("fastapi", "fastapi-2", "fastapi-tuned", "fastapi-tuned-2")
PEERS = (*FRAMEWORKS, *BY_HAND)
LIMIT = "lean"
#: Lakeport's replicas of a model that asks for no more: one, as a user gets by default, and as many
#: as the others have processes.
OURS: Mapping[str, int] = {"lakeport": 1, f"lakeport-{WORKERS}": WORKERS}
SERVERS = (*OURS, *PEERS, LIMIT)


def without(name: str, model: str) -> str | None:
    """Why this one is not asked about that model."""
    return _RECIPES[name].without.get(model) if name in _RECIPES else None


def peer(name: str, model: SavedModel, folder: Path, cache: Path) -> Peer:
    """One of PEERS, or LIMIT, serving the model. Raises NotInstalled."""
    if name == "mlflow":  # it is in this environment already
        return servers.mlflow(model.folder, WORKERS)
    return _RECIPES[name].peer(name, model, folder, cache)
