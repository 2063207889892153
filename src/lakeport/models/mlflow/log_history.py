"""The run's tag `mlflow.log-model.history`: which models the run logged, and their signatures.

MLflow 3 no longer writes it, but code that looks for a model's signature reads it there.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

TAG = "mlflow.log-model.history"
#: Characters of a run's tag that MLflow keeps (`mlflow.utils.validation.MAX_TAG_VAL_LENGTH`).
LONGEST = 8000
#: What the tag tells of a model, beside flavors and signature, as MLflow 2 wrote it.
_TOLD = ("run_id", "artifact_path", "utc_time_created", "model_uuid")


def with_model(history: str | None, mlmodel: Mapping[str, Any], run_id: str) -> str | None:
    """The tag's new value once the run's model is in it; None: it is in already, or can't be.

    `history` is the value so far, `mlmodel` the content of the MLmodel file. The value stays valid
    JSON of at most `LONGEST` characters: details of the model are left out, outputs first, and the
    oldest models of the run.
    """
    try:
        models = json.loads(history or "[]")
    except ValueError:
        return None  # somebody else's words
    if not isinstance(models, list) or any(_same(model, mlmodel) for model in models):
        return None
    for entry in _entries(mlmodel, run_id):
        for first in range(len(models) + 1):
            value = json.dumps([*models[first:], entry], default=str)
            if len(value) <= LONGEST:
                return value
    return None


def _same(told: Any, mlmodel: Mapping[str, Any]) -> bool:
    return isinstance(told, dict) and told.get("model_uuid") == mlmodel.get("model_uuid")


def _entries(mlmodel: Mapping[str, Any], run_id: str) -> Iterator[dict[str, Any]]:
    """What to tell of a model, from all of it to less and less."""
    entry = {name: str(mlmodel[name]) for name in _TOLD if mlmodel.get(name)} | {"run_id": run_id}
    signature = mlmodel.get("signature")
    flavors = mlmodel.get("flavors")
    if not isinstance(signature, Mapping):
        yield entry | {"flavors": flavors}
        yield entry
        return
    yield entry | {"flavors": flavors, "signature": signature}
    yield entry | {"signature": signature}
    yield entry | {"signature": {k: v for k, v in signature.items() if k != "outputs"}}
    columns = json.loads(signature.get("inputs") or "[]")
    while isinstance(columns, list) and columns:
        columns = columns[: len(columns) // 2]
        yield entry | {"signature": {"inputs": json.dumps(columns), "cut": True}}
