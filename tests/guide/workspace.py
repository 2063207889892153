"""A workspace that has what the guide asks for, and one endpoint that it does not know."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.server import ServerProcess, closing, entity
from tests.models.fixtures import PutWeights, SavedModel

CHATS = ("databricks-claude-sonnet-4", "llama-chat-endpoint")
CHAT_MODEL = "smollm2-135m-instruct"
CODE, RISK = Path(__file__).with_name("any_width.py"), Path(__file__).with_name("risk.py")


@contextmanager
def guide_workspace(saved_model: SavedModel, put_weights: PutWeights) -> Iterator[ServerProcess]:
    """`my-model-endpoint` and `fraud-detection` take rows of any width; `iris` and `risk` have a
    signature; the two chats are one small model."""
    with tempfile.TemporaryDirectory(prefix="lakeport-") as folder:
        home = Path(folder, "home")
        put_weights(home, CHAT_MODEL)
        chats = [f"{name}=system.ai.{CHAT_MODEL}" for name in CHATS]
        with closing(ServerProcess(home, chat=chats, registry="eager")) as server:
            server.start()
            _serve_models(server, Path(folder), saved_model)
            for chat in CHATS:
                server.updated(chat)
            yield server


def exported(server: ServerProcess) -> dict[str, str]:
    """The variables that somebody exported who did what the server prints."""
    url = str(server.client.base_url).rstrip("/")
    return {
        "DATABRICKS_HOST": url,
        "DATABRICKS_TOKEN": server.token,
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_TRACKING_TOKEN": server.token,
    }


def _serve_models(server: ServerProcess, folder: Path, saved_model: SavedModel) -> None:
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    takes = Schema([ColSpec("double", "balance"), ColSpec("long", "age")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow would like a signature
        mlflow.pyfunc.save_model(
            folder / "row_sums", python_model=str(CODE), pip_requirements=["mlflow"]
        )
        mlflow.pyfunc.save_model(
            folder / "risk",
            python_model=str(RISK),
            pip_requirements=["mlflow"],
            signature=ModelSignature(inputs=takes),
        )
    for endpoint, model, files in (
        ("my-model-endpoint", "row_sums", folder / "row_sums"),
        ("fraud-detection", "fraud", folder / "row_sums"),
        ("iris", "iris", saved_model("iris")),
        ("risk", "risk", folder / "risk"),
    ):
        version = server.register(model, files)
        server.create(endpoint, entity(f"{model}-{version}", model, version))
    tags = {"add_tags": [{"key": "team", "value": "risk"}, {"key": "stage", "value": "test"}]}
    server.call("PATCH", "serving-endpoints/my-model-endpoint/tags", tags)
