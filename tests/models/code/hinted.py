"""Its signature comes from its type hints."""

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Hinted(PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:  # type: ignore[override]
        return [text.upper() for text in model_input]


set_model(Hinted())
