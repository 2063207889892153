"""A model without a signature that takes rows of any width: it adds up each."""

from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class RowSums(PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[float]:
        sums: list[float] = np.asarray(model_input, dtype=float).sum(axis=1).tolist()
        return sums


set_model(RowSums())
