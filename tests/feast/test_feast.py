"""A real Feast feature store as a source. Feast pins an older pandas, so these run in an
environment of their own: see the Makefile."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from lakeport.client.errors import InvalidInput
from lakeport.client.features import feature_columns
from lakeport.features import FeastSource

feast = pytest.importorskip("feast")
pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Features of customers 7 and 9; 11 is known, and has an empty one."""
    from feast.types import Float64, Int64  # only where Feast is installed

    folder: Path = tmp_path_factory.mktemp("feast")
    now = dt.datetime.now(dt.UTC)
    pd.DataFrame(
        {
            "customer_id": [7, 9, 11],
            "balance": [1.5, 2.5, None],
            "age": [30, 40, 50],
            "at": [now] * 3,
        }
    ).to_parquet(folder / "stats.parquet")
    made = feast.FeatureStore(
        config=feast.RepoConfig(
            project="test",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    customer = feast.Entity(
        name="customer", join_keys=["customer_id"], value_type=feast.ValueType.INT64
    )
    stats = feast.FeatureView(
        name="stats",
        entities=[customer],
        ttl=dt.timedelta(days=1),
        schema=[feast.Field(name="balance", dtype=Float64), feast.Field(name="age", dtype=Int64)],
        source=feast.FileSource(path=str(folder / "stats.parquet"), timestamp_field="at"),
    )
    made.apply([customer, stats])
    made.materialize(now - dt.timedelta(hours=1), now + dt.timedelta(hours=1))
    return made


@pytest.fixture
def source(store: Any) -> FeastSource:
    return FeastSource(store, ["stats:balance", "stats:age"], keys="customer_id")


def test_features_come_in_the_order_of_the_keys(source: FeastSource) -> None:
    columns = feature_columns({"customer_id": [9, 7, 9]}, source, None)

    assert columns == {"balance": [2.5, 1.5, 2.5], "age": [40, 30, 40]}


def test_an_unknown_key_is_named(source: FeastSource) -> None:
    with pytest.raises(InvalidInput, match="no features for customer_id=8"):
        feature_columns({"customer_id": [7, 8]}, source, None)


def test_an_unknown_key_may_be_sent_as_null(source: FeastSource) -> None:
    columns = feature_columns({"customer_id": [8]}, source, None, missing="null")

    assert columns == {"balance": [None], "age": [None]}


def test_a_known_key_with_an_empty_feature_is_not_missing(source: FeastSource) -> None:
    columns = feature_columns({"customer_id": [11]}, source, None)

    assert columns == {"balance": [None], "age": [50]}


def test_names_may_be_full_ones(store: Any) -> None:
    source = FeastSource(store, ["stats:age"], keys="customer_id", full_names=True)

    assert feature_columns({"customer_id": [7]}, source, None) == {"stats__age": [30]}
