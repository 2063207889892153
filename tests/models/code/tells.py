"""Tells of its process what each row asks for."""

import os
import random
import ssl
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


def mask() -> int:
    found = os.umask(0o077)
    os.umask(found)
    return found


def squares() -> list[int]:
    """From threads."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda number: number**2, range(4)))


ANSWERS = {
    "folder": os.getcwd,
    "mask": mask,
    "group": lambda: os.getpgid(0) == os.getsid(0) == os.getpid(),
    "parent": os.getppid,
    "random": random.random,
    "numpy": np.random.rand,
    "uuid": uuid.uuid4,
    "tls": lambda: ssl.RAND_bytes(8).hex(),
    "squares": squares,
}


class Tells(PythonModel):
    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[str]:
        return [
            str(ANSWERS[word]() if word in ANSWERS else os.environ.get(word))
            for word in model_input["x"]
        ]


set_model(Tells())
