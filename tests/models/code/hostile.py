"""Does what each request's `do` says; nothing good."""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


def raise_error() -> str:
    raise ValueError(f"{__file__}: told to raise")


def raise_foreign_code() -> str:
    raise MlflowException("busy", error_code=13)


def hang() -> str:
    threading.Event().wait()
    return "never"


def eat() -> str:
    return str(len(bytearray(64 * 2**40)))


#: What can be asked for. `os._exit` and the segfault end the process at once.
DEEDS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: "nothing",
    "raise": raise_error,
    "raise_foreign_code": raise_foreign_code,
    "sys.exit": lambda: sys.exit(3),
    "os._exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "hang": hang,
    "eat": eat,
    "print": lambda: print("printed by the model"),
    "pid": os.getpid,
    "input": sys.stdin.read,
    "object": object,
    "nan": lambda: float("nan"),
    "imports": lambda: [name for name in sys.path if "lakeport" in name],
}


class Hostile(PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[Any]:
        return [DEEDS[deed]() for deed in model_input["do"]]


set_model(Hostile())
