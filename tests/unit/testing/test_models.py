"""Which of MLflow's flavors an object has."""

from unittest.mock import MagicMock

import pytest
from mlflow.pyfunc import PythonModel
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from xgboost import XGBRegressor

from lakeport.testing.models import flavor_of


class Mine(PythonModel):
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  MLflow reads type hints
        return model_input


class OwnEstimator(LinearRegression):
    pass


@pytest.mark.parametrize(
    ("model", "flavor"),
    [
        (LinearRegression(), "sklearn"),
        (make_pipeline(LinearRegression()), "sklearn"),
        (OwnEstimator(), "sklearn"),
        (XGBRegressor(), "xgboost"),
        (Mine(), "pyfunc"),
        (MagicMock(), None),
        (len, None),
        (lambda x: x, None),
        (7, None),
    ],
)
def test_flavors(model: object, flavor: str | None) -> None:
    assert flavor_of(model) == flavor
