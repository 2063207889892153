"""Answers with a DataFrame: each row's `x`, doubled, and whether it is positive."""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Frame(PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        x = model_input["x"]
        return pd.DataFrame({"doubled": x * 2, "positive": x > 0, "label": [f"row {v}" for v in x]})


set_model(Frame())
