"""Predicting with features of primary keys."""

from collections.abc import Mapping
from typing import Any

from lakeport.client import calls_signature
from lakeport.client.answers import Prediction
from lakeport.client.calls import Context
from lakeport.client.calls_query import expect, given_and_options, query
from lakeport.client.features import FeatureSource, feature_columns
from lakeport.client.flow import Flow, Work


def predict_with_features(
    context: Context,
    name: str,
    keys: Mapping[str, Any],
    *,
    source: FeatureSource,
    missing: str,
    options: Mapping[str, Any],
) -> Flow[Prediction]:
    """See `Client.predict_with_features`."""
    entity = options.get("entity")
    found = yield from calls_signature.for_query(context, name, entity, registry=True)
    signature = found[0] if found else None
    columns: dict[str, list[Any]] = yield Work(
        lambda: feature_columns(keys, source, signature, endpoint=name, missing=missing)
    )
    given, own = given_and_options({**options, "columns": columns})
    return (yield from expect(query(context, name, given, own), Prediction, "predictions"))
