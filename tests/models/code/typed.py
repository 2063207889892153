"""Answers with what it was given, as text: a time, bytes, and an integer that may be missing."""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Typed(PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[str]:
        return [f"{list(row)} {list(model_input.dtypes)}" for row in model_input.to_numpy()]


set_model(Typed())
