"""Loops in turn: another way to the same bits."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lakeport.worker import model as worker_model
from lakeport.worker.flavors.in_turn import in_turn
from tests.unit.worker.planned import CLASSES, NUMBERS, TABLE, TWO

BOTH = np.c_[CLASSES, TWO]
ROWS = np.random.default_rng(5).normal(size=(1100, 3))

FORESTS: list[tuple[Any, Any, str]] = [
    (RandomForestClassifier(9, random_state=1), CLASSES, "predict"),
    (RandomForestClassifier(9, random_state=1), CLASSES, "predict_proba"),
    (RandomForestClassifier(9, random_state=1), CLASSES, "predict_log_proba"),
    (RandomForestClassifier(9, random_state=1), BOTH, "predict_proba"),
    (RandomForestClassifier(9, random_state=1), BOTH, "predict"),
    (ExtraTreesClassifier(9, random_state=1), CLASSES, "predict_proba"),
    (RandomForestRegressor(9, random_state=1), NUMBERS, "predict"),
    (ExtraTreesRegressor(9, random_state=1), BOTH, "predict"),
    (make_pipeline(StandardScaler(), RandomForestRegressor(9, random_state=1)), NUMBERS, "predict"),
]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one.dtype == other.dtype and one.tolist() == other.tolist())


@pytest.mark.parametrize(("model", "target", "method"), FORESTS)
def test_a_forest_in_turn_has_scikit_learns_bits(model: Any, target: Any, method: str) -> None:
    model.fit(TABLE.to_numpy(), target)
    kind = type(model)
    expected = getattr(model, method)(ROWS)

    in_turn(model)

    assert same(getattr(model, method)(ROWS), expected)
    assert (type(model).__name__, type(model).__module__) == (kind.__name__, kind.__module__)
    assert isinstance(model, kind)


@pytest.mark.parametrize("remainder", ["passthrough", "drop"])
@pytest.mark.parametrize("last", [LogisticRegression(), RandomForestClassifier(9, random_state=1)])
def test_columns_in_turn_have_scikit_learns_bits(
    remainder: str, last: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = TABLE.assign(word=["x" if number > 0 else "y" for number in TABLE["b"]])
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), ["a", "b"]), ("words", OneHotEncoder(), ["word"])],
        remainder=remainder,
        n_jobs=2,
    )
    model = make_pipeline(columns, clone(last)).fit(table, CLASSES)
    expected = model.predict_proba(table)
    missing = "columns are missing"
    with pytest.raises(ValueError, match=missing):
        model.predict(table.drop(columns="a"))

    in_turn(model)

    refuse_joblib(monkeypatch)
    assert same(model.predict_proba(table), expected)
    with pytest.raises(ValueError, match=missing):
        model.predict(table.drop(columns="a"))


def refuse_joblib(monkeypatch: pytest.MonkeyPatch) -> None:
    import joblib  # type: ignore[import-untyped]

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("joblib was asked")

    monkeypatch.setattr(joblib.Parallel, "__call__", refuse)
    monkeypatch.setattr(joblib.Parallel, "__init__", refuse)


def test_a_forest_in_turn_starts_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RandomForestClassifier(9, n_jobs=4, random_state=1).fit(TABLE.to_numpy(), CLASSES)

    in_turn(model)

    refuse_joblib(monkeypatch)
    assert model.predict(ROWS).shape == (1100,)


def test_a_forest_says_what_is_wrong_as_before() -> None:
    model = RandomForestClassifier(9, random_state=1).fit(TABLE.to_numpy(), CLASSES)
    in_turn(model)

    with pytest.raises(ValueError, match=r"2 features, but .* expecting 3"):
        model.predict(ROWS[:, :2])


def test_an_authors_pipeline_is_loaded_whatever_it_is_made_of() -> None:
    """In a class of the same name, which has nothing but that in common with scikit-learn's."""

    class Pipeline:
        steps = 3

    worker_model._in_turn(Pipeline())


def test_what_is_no_forest_stays_as_it_is() -> None:
    class Own(RandomForestClassifier):
        """An author's, who may have other plans with its trees."""

    for model in (BaggingClassifier(n_estimators=2), Own(2), object(), None):
        kind = type(model)

        in_turn(model)

        assert type(model) is kind
