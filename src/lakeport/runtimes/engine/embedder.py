"""The embedder: our own small engine for embeddings, on onnxruntime (`embedder_child.py`)."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

from lakeport.models.catalogue import ONNX, TOKENIZER
from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.engine.command import Command, Order

CHILD = Path(__file__).with_name("embedder_child.py")

MISSING = "onnxruntime and tokenizers are needed for this model: pip install 'lakeport[llm]'"


def check() -> None:
    """Raises StartFailed where it cannot run."""
    if find_spec("onnxruntime") is None or find_spec("tokenizers") is None:
        raise StartFailed(MISSING)


def command(order: Order) -> Command:
    wish = {
        "model": str(order.files[ONNX]),
        "tokenizer": str(order.files[TOKENIZER]),
        "socket": order.socket,
        "name": order.name,
        "context": order.context,
        "threads": order.threads,
    }
    return Command((sys.executable, "-I", "-u", str(CHILD), json.dumps(wish)))
