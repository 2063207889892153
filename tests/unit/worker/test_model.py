"""Which models merge, which stream, and that every format loads."""

from pathlib import Path

import pytest

from lakeport.worker import model
from tests.models.build import CODE
from tests.models.fixtures import SavedModel


@pytest.mark.parametrize(
    ("name", "row_wise"),
    [
        ("iris", True),
        ("iris_pickle", True),
        ("iris_cloudpickle", True),
        ("iris_proba", True),
        ("mixed", True),
        ("regressor", True),
        ("xgboost", True),
        ("lightgbm", True),
        ("no_signature", True),
        ("params", False),
        ("frame", False),
        ("tensor", False),
        ("chat", False),
        ("streams", False),
    ],
)
def test_only_known_flavors_with_plain_columns_merge(
    saved_model: SavedModel, name: str, row_wise: bool
) -> None:
    loaded = model.load(saved_model(name), merge=None)

    assert loaded.row_wise is row_wise
    assert loaded.streams is (name == "streams")


@pytest.mark.parametrize(
    ("name", "merge", "row_wise"),
    [
        ("iris", False, False),
        ("params", True, True),
        ("tensor", True, True),
        ("chat", True, False),
        ("streams", True, False),
        ("typed", True, False),
    ],
)
def test_the_operators_word_on_merging_counts(
    saved_model: SavedModel, name: str, merge: bool, row_wise: bool
) -> None:
    assert model.load(saved_model(name), merge=merge).row_wise is row_wise


@pytest.mark.parametrize(
    ("declared", "merge", "row_wise"),
    [
        (True, None, True),
        (True, False, False),
        (False, None, False),
        (False, True, True),
        ("yes", None, False),
    ],
)
def test_an_author_may_declare_a_model_row_wise(
    tmp_path: Path, declared: object, merge: bool | None, row_wise: bool
) -> None:
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import infer_signature

    mlflow.pyfunc.save_model(
        tmp_path / "model",
        python_model=str(CODE / "frame.py"),
        signature=infer_signature({"x": np.array([1.5])}),
        metadata={"lakeport": {"row_wise": declared}},
        pip_requirements=[],
    )

    assert model.load(tmp_path / "model", merge=merge).row_wise is row_wise


@pytest.mark.parametrize("part", ["function", "iterative", "own", "analyzer"])
def test_a_pipeline_with_a_part_that_may_look_at_other_rows_does_not_merge(
    tmp_path: Path, part: str
) -> None:
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.decomposition import NMF
    from sklearn.linear_model import LinearRegression
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.svm import SVR

    class Centered(TransformerMixin, BaseEstimator):
        def fit(self, x: pd.DataFrame, y: object = None) -> "Centered":
            self.fitted_ = True
            return self

        def transform(self, x: pd.DataFrame) -> pd.DataFrame:
            return x - x.mean()

    parts = {
        "function": make_pipeline(FunctionTransformer(lambda x: x - x.mean()), LinearRegression()),
        "iterative": make_pipeline(NMF(1), LinearRegression()),
        "own": make_pipeline(Centered(), LinearRegression()),
        "analyzer": make_pipeline(SVR(kernel=rbf_kernel)),
    }
    data = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [2.0, 1.0, 0.0]})
    mlflow.sklearn.save_model(
        parts[part].fit(data, [1.0, 2.0, 3.0]),
        tmp_path / "model",
        serialization_format="cloudpickle",
        signature=infer_signature(data),
        pip_requirements=[],
    )

    assert not model.load(tmp_path / "model", merge=None).row_wise


def test_skops_trusts_the_types_that_the_model_names(tmp_path: Path) -> None:
    import mlflow.sklearn
    import numpy as np
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    pipeline = make_pipeline(FunctionTransformer(np.vander), LinearRegression())
    mlflow.sklearn.save_model(
        pipeline.fit(np.arange(4.0), np.arange(4.0)),
        tmp_path / "model",
        serialization_format="skops",
        skops_trusted_types=["numpy.vander"],
        pip_requirements=[],
    )

    assert not model.load(tmp_path / "model", merge=None).row_wise


def test_a_model_that_cannot_be_loaded_says_why(saved_model: SavedModel) -> None:
    with pytest.raises(RuntimeError, match="the weights are not what they were"):
        model.load(saved_model("load_raises"), merge=None)
