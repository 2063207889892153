"""Answers with a DataFrame: each row's `x`, doubled, and whether it is positive."""

from typing import Any

import mlflow
import pandas as pd


class Frame(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        x = model_input["x"]
        return pd.DataFrame({"doubled": x * 2, "positive": x > 0, "label": [f"row {v}" for v in x]})


mlflow.models.set_model(Frame())
