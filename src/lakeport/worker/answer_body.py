"""From what the model gives back to bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from .refusal import Refusal
from .request_body import Document


class NotRowWise(Exception):
    """A model has other than one prediction for each row."""


def answer_json(predictions: Any, *, bare: bool) -> bytes:
    """The body of an answer, equal to MLflow's but for NaN and Infinity, which become null (MLflow
    writes them as they are, which is no JSON). Raises Refusal 400 for what JSON cannot say."""
    plain = plain_values(predictions)
    return dumps(plain if bare else {"predictions": plain})


def event_json(chunk: Any) -> bytes:
    """One chunk of a stream as one JSON document without anything that a reader of events could
    take for an end of line."""
    document = dumps(plain_values(chunk))
    if document.isascii():
        return document
    for mark, escape in _LINE_ENDS.items():
        document = document.replace(mark, escape)
    return document


_LINE_ENDS = {
    "\u0085".encode(): b"\\u0085",
    "\u2028".encode(): b"\\u2028",
    "\u2029".encode(): b"\\u2029",
}


def dumps(value: Any) -> bytes:
    """JSON of plain values, or of those that MLflow's encoder knows. Raises Refusal 400."""
    try:
        return orjson.dumps(value, default=_default, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError:
        pass  # long integers, keys that are no strings, lone surrogates, or nothing that JSON knows
    from mlflow.utils.proto_json_utils import NumpyEncoder

    try:
        text = json.dumps(value, cls=NumpyEncoder)
        if "NaN" in text or "Infinity" in text:
            text = json.dumps(json.loads(text, parse_constant=lambda _: None))
    except (TypeError, ValueError, RecursionError) as error:
        raise Refusal(f"The model's output cannot be written as JSON: {error}") from error
    return text.encode("ascii")


def _default(value: Any) -> Any:
    from mlflow.utils.proto_json_utils import NumpyEncoder

    return NumpyEncoder().default(value)


def plain_values(predictions: Any) -> Any:
    """MLflow's `_get_jsonable_obj`: arrays become lists, frames and series lists of records."""
    import numpy as np
    import pandas as pd

    if isinstance(predictions, np.ndarray):
        return predictions.tolist()
    if isinstance(predictions, pd.Series):
        predictions = pd.DataFrame(predictions)
    if isinstance(predictions, pd.DataFrame):
        return predictions.to_dict(orient="records")
    return predictions


def split(predictions: Any, rows: Sequence[int]) -> list[Any]:
    """The predictions for requests of so many rows each, as plain values. Raises NotRowWise where
    they are not one for each row."""
    import numpy as np

    total = sum(rows)
    if isinstance(predictions, dict):  # outputs by name: arrays
        parts = {name: split(output, rows) for name, output in predictions.items()}
        return [{name: parts[name][at] for name in parts} for at in range(len(rows))]
    values = plain_values(predictions)
    if not isinstance(values, list) or len(values) != total:
        raise NotRowWise
    # scikit-learn's `predict_proba` gives an array for each of several outputs, not for each row:
    # as many as there are rows, by chance.
    if any(isinstance(value, np.ndarray) for value in values):
        raise NotRowWise
    pieces, start = [], 0
    for count in rows:
        pieces.append(values[start : start + count])
        start += count
    return pieces


def answer_note(document: Document | None) -> Mapping[str, Any]:
    """What of the request goes back to the front, beside the answer."""
    if document is None:
        return {}
    taken = {
        "client_request_id": document.client_request_id,
        "usage_context": document.usage_context,
    }
    return {name: value for name, value in taken.items() if value is not None}
