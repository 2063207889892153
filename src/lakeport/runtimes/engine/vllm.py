"""vLLM: runs models on GPUs. A program of its own that is spoken to, never imported."""

import os
import shutil
from collections.abc import Callable

from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.engine.command import Command, Order
from lakeport.wire.chat import Task

MISSING = (
    "vLLM is needed for this model: install it into an environment of its own (pip install vllm) "
    "and put its `vllm` on the PATH, or name it with the setting vllm"
)


def program(
    setting: str | None,
    workload_type: str,
    *,
    which: Callable[[str], str | None] = shutil.which,
) -> str:
    """The `vllm` to run. Raises StartFailed."""
    if not workload_type.startswith("GPU_"):
        raise StartFailed(
            f"vLLM runs on a GPU: workload_type must be one of GPU_*, and it is {workload_type}"
        )
    if setting is not None:
        found = which(setting)
        if found is None:
            raise StartFailed(f"the setting vllm names no program: {setting}")
        return os.path.abspath(found)  # it is started in a folder of its own
    found = which("vllm")
    if found is None:
        raise StartFailed(MISSING)
    return os.path.abspath(found)


def command(program: str, order: Order) -> Command:
    """`program` is what the function of that name gave."""
    model = order.hub or str(_folder(order))
    argv = [program, "serve", model, "--uds", order.socket, "--served-model-name", order.name]
    argv += ["--max-model-len", str(order.context), "--max-num-seqs", str(order.slots)]
    if order.task is Task.EMBEDDINGS:
        argv += ["--runner", "pooling"]
    if order.chat_template is not None:
        argv += ["--chat-template", order.chat_template]
    return Command(
        (*argv, *order.arguments),
        {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1"},
    )


def _folder(order: Order) -> str:
    """The folder of the model's files, or the one folder that was given."""
    first = next(iter(order.files.values()))
    return str(first if first.is_dir() else first.parent)
