"""Features of keys, joined to what a model takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sqlalchemy as sa

from lakeport.client.errors import InvalidInput
from lakeport.client.features import Features, FeatureSource, feature_columns
from lakeport.client.signature import Column, Signature
from lakeport.features import DataFrameSource, SqlSource

TABLE = {
    "customer_id": [7, 8, 9],
    "balance": [70.0, 80.0, None],
    "segment": ["a", "b", "c"],
}
TAKES = Signature(inputs=(Column("segment", "string"), Column("balance", "double")))


class Counting:
    """A source that counts its look-ups."""

    keys = ("customer_id",)

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []

    def fetch(self, keys: Mapping[str, Sequence[Any]]) -> Features:
        self.asked.append(list(keys["customer_id"]))
        return Features({"balance": [key * 10.0 for key in keys["customer_id"]]})


def by_pandas() -> FeatureSource:
    return DataFrameSource(pd.DataFrame(TABLE), keys=["customer_id"])


def by_polars() -> FeatureSource:
    return DataFrameSource(pl.DataFrame(TABLE), keys="customer_id")


def by_sql() -> FeatureSource:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    pd.DataFrame(TABLE).to_sql("customers", engine, index=False)
    return SqlSource(engine, "customers", keys=["customer_id"])


@pytest.mark.parametrize("make", [by_pandas, by_polars, by_sql])
class TestEverySource:
    def test_features_come_in_the_order_of_the_keys_and_of_the_signature(self, make: Any) -> None:
        columns = feature_columns({"customer_id": [8, 7, 8]}, make(), TAKES)

        assert list(columns) == ["segment", "balance"]
        assert columns == {"segment": ["b", "a", "b"], "balance": [80.0, 70.0, 80.0]}

    def test_an_unknown_key_is_named_with_its_row(self, make: Any) -> None:
        with pytest.raises(InvalidInput, match="no features for customer_id=5") as refused:
            feature_columns({"customer_id": [7, 5]}, make(), TAKES)

        assert [(p.column, p.row) for p in refused.value.problems] == [("customer_id", 1)]

    def test_an_unknown_key_may_be_sent_as_null(self, make: Any) -> None:
        columns = feature_columns({"customer_id": [5, 7]}, make(), TAKES, missing="null")

        assert columns == {"segment": [None, "a"], "balance": [None, 70.0]}

    def test_a_known_key_with_an_empty_feature_is_not_missing(self, make: Any) -> None:
        columns = feature_columns({"customer_id": 9}, make(), TAKES)

        assert columns["segment"] == ["c"]
        assert pd.isna(columns["balance"][0])


def test_what_the_caller_sends_wins_over_a_feature() -> None:
    columns = feature_columns({"customer_id": [7], "balance": [1.0]}, by_pandas(), TAKES)

    assert columns == {"segment": ["a"], "balance": [1.0]}


def test_a_batch_is_one_lookup_of_distinct_keys() -> None:
    source = Counting()

    columns = feature_columns({"customer_id": [3, 1, 3, 3]}, source, None)

    assert source.asked == [[3, 1]]
    assert columns == {"balance": [30.0, 10.0, 30.0, 30.0]}


def test_a_key_that_the_model_takes_is_sent_too() -> None:
    takes = Signature(inputs=(Column("customer_id", "long"), Column("balance", "double")))

    columns = feature_columns({"customer_id": [3]}, Counting(), takes)

    assert columns == {"customer_id": [3], "balance": [30.0]}


def test_no_keys_ask_nothing() -> None:
    source = Counting()

    with pytest.raises(InvalidInput, match="there are none"):
        feature_columns({"customer_id": []}, source, None)

    assert source.asked == []


@pytest.mark.parametrize("make", [by_pandas, by_polars, by_sql])
@pytest.mark.parametrize("many", [np.array, list, pd.Series, np.int32])
def test_keys_of_numpy_are_found(make: Any, many: Any) -> None:
    keys = np.int32(8) if many is np.int32 else many([np.int64(8)])

    assert feature_columns({"customer_id": keys}, make(), TAKES)["segment"] == ["b"]


def test_times_of_numpy_are_found() -> None:
    days = pd.to_datetime(["2026-01-02"])
    source = DataFrameSource(pd.DataFrame({"day": days, "balance": [1.0]}), keys="day")

    assert feature_columns({"day": days.to_numpy()}, source, None) == {"balance": [1.0]}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"balance": [1.0]}, "a dict, not Features"),
        (Features({"balance": [1.0]}), "1 values of 'balance' for 2 keys"),
        (Features({"balance": [1.0] * 3}), "3 values of 'balance' for 2 keys"),
    ],
)
def test_a_source_that_answers_wrongly_is_named(answer: Any, says: str) -> None:
    source = Counting()
    source.fetch = lambda keys: answer  # type: ignore[method-assign]

    with pytest.raises((TypeError, ValueError), match=says):
        feature_columns({"customer_id": [1, 2]}, source, None)


def test_columns_of_a_source_may_be_arrays_and_series() -> None:
    source = Counting()
    found: Any = {"balance": np.array([1.0, 2.0]), "age": pd.Series([3, 4], index=[8, 9])}
    missing: Any = np.array([])
    answer = Features(found, missing)
    source.fetch = lambda keys: answer  # type: ignore[method-assign]

    assert feature_columns({"customer_id": [1, 2]}, source, None) == {
        "balance": [1.0, 2.0],
        "age": [3, 4],
    }


@pytest.mark.parametrize(
    ("keys", "source", "says"),
    [([{"customer_id": 1}], Counting(), "expected columns"), ({}, None, "lakeport.features")],
)
def test_what_is_no_source_or_no_keys_is_named(keys: Any, source: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        feature_columns(keys, source, None)


def test_one_feature_needs_no_list() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    pd.DataFrame(TABLE).to_sql("customers", engine, index=False)
    query = sa.select(sa.table("customers", sa.column("customer_id"), sa.column("segment")))

    for source in (
        DataFrameSource(pd.DataFrame(TABLE), keys="customer_id", features="segment"),
        SqlSource(engine, "customers", keys="customer_id", features="segment"),
        SqlSource(engine, query, keys="customer_id"),
    ):
        assert feature_columns({"customer_id": 8}, source, None) == {"segment": ["b"]}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "Missing primary key: customer_id"),
        ({"customer": [1]}, "given were customer"),
        ({"customer_id": [1, 2], "amount": [1]}, "customer_id: 2, amount: 1"),
        ({"customer_id": [{"a": 1}]}, "must be a plain value"),
    ],
)
def test_keys_that_cannot_be_looked_up_are_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        feature_columns(keys, Counting(), None)


def test_a_feature_that_nobody_has_is_named() -> None:
    takes = Signature(inputs=(Column("balance", "double"), Column("age", "long")))

    with pytest.raises(InvalidInput, match="takes age, which neither"):
        feature_columns({"customer_id": [1]}, Counting(), takes)


def test_an_optional_feature_may_be_absent() -> None:
    takes = Signature(inputs=(Column("balance", "double"), Column("age", "long", required=False)))

    assert list(feature_columns({"customer_id": [1]}, Counting(), takes)) == ["balance"]


def test_a_word_that_is_no_way_with_missing_keys_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected 'error' or 'null'"):
        feature_columns({"customer_id": [1]}, Counting(), None, missing="skip")


def test_a_frame_with_a_key_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="customer_id=7 is in the frame twice"):
        DataFrameSource(pd.DataFrame({"customer_id": [7, 7], "x": [1, 2]}), keys="customer_id")


def test_a_frame_without_the_column_is_refused() -> None:
    with pytest.raises(ValueError, match="no column id; it has customer_id"):
        DataFrameSource(pd.DataFrame({"customer_id": [7]}), keys="id")


def compound() -> SqlSource:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    rows = [(shop, item, shop * 100 + item) for shop in range(40) for item in range(1000)]
    pd.DataFrame(rows, columns=["shop", "item", "stock"]).to_sql("stock", engine, index=False)
    return SqlSource(engine, "stock", keys=["shop", "item"])


def test_compound_keys_and_more_of_them_than_one_statement_takes() -> None:
    shops = [shop for shop in range(40) for _ in range(1000)]
    items = list(range(1000)) * 40

    columns = feature_columns({"shop": shops, "item": items}, compound(), None)

    assert columns["stock"] == [s * 100 + i for s, i in zip(shops, items, strict=True)]


def test_a_query_may_stand_for_a_table() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    pd.DataFrame({"id": [1, 1, 2], "paid": [5, 6, 7]}).to_sql("paid", engine, index=False)
    table = sa.table("paid", sa.column("id"), sa.column("paid"))
    total = sa.select(table.c.id, sa.func.sum(table.c.paid).label("total")).group_by(table.c.id)

    source = SqlSource(engine, total.subquery(), keys="id")

    assert feature_columns({"id": [2, 1]}, source, None) == {"total": [7, 11]}


def test_a_table_with_a_key_twice_is_refused() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    pd.DataFrame({"id": [1, 1], "paid": [5, 6]}).to_sql("paid", engine, index=False)

    with pytest.raises(ValueError, match="id=1 is there twice"):
        feature_columns({"id": [1]}, SqlSource(engine, "paid", keys="id"), None)


@pytest.mark.parametrize(
    ("table", "keys", "says"),
    [("nowhere", "id", "no table or view 'nowhere'"), ("paid", "ids", "no column ids; it has id")],
)
def test_a_table_that_is_not_there_is_named(table: str, keys: str, says: str) -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    pd.DataFrame({"id": [1], "paid": [5]}).to_sql("paid", engine, index=False)

    with pytest.raises(ValueError, match=says):
        SqlSource(engine, table, keys=keys)
