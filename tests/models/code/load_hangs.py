"""Does not finish loading; where LOAD_UNTIL names a file, it fails once that is there."""

import os
import time
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class LoadHangs(PythonModel):
    def load_context(self, context: Any) -> None:
        until = os.environ.get("LOAD_UNTIL")
        while until is None or not Path(until).exists():
            time.sleep(0.05)
        raise RuntimeError("it was waited for in vain")

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input


set_model(LoadHangs())
