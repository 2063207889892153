"""Answers with the params that it was given, one for each row."""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Params(PythonModel):
    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[str]:
        assert params is not None
        return [f"{x:g} at {params['temperature']:g}" for x in model_input["x"]]


set_model(Params())
