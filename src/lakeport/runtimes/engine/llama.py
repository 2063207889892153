"""llama.cpp: runs GGUF models on processors and GPUs.

A `llama-server` that the machine has, or the one in the package `xllamacpp`, which a small program
of ours runs (`llama_child.py`). Both get the same parameters and speak the same wire.

Its habits that are corrected here: `model` in an answer would be the file's path; what it keeps of
old prompts would take 8 GiB; it would write comments into quiet streams, which some clients take
for their end; it would offer a chat page and let pages of any origin read its answers.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.engine.command import Command, Order
from lakeport.wire.chat import Task

CHILD = Path(__file__).with_name("llama_child.py")
#: Tokens that it works on between two looks at who has hung up, on processors: by default it takes
#: 2048, and reads on for 8 s for a caller who has gone, while every other stream waits. Speed is
#: the same.
BATCH = 128
#: Threads that answer HTTP, beside one for each request that it holds: so /health is answered
#: however busy it is.
HTTP_THREADS = 8
#: Its threads wait for one another many times a token. A thread that has waited for some 20
#: microseconds (1000 turns) sleeps until the others are there: by default it would keep its core
#: for milliseconds from just the thread that it waits for, wherever another program wants a core.
WAITING = {"GOMP_SPINCOUNT": "1000"}
#: MiB of memory in which it keeps the state of prompts that it may meet again.
PROMPT_CACHE = 256

MISSING = (
    "llama.cpp is needed for this model: pip install 'lakeport[llm]', put a `llama-server` on the "
    "PATH, or name one with the setting llama_server"
)


def program(setting: str | None, *, which: Callable[[str], str | None] = shutil.which) -> str:
    """The `llama-server` to run, or "" for the one in `xllamacpp`. Raises StartFailed."""
    if setting is not None:
        found = which(setting)
        if found is None:
            raise StartFailed(f"the setting llama_server names no program: {setting}")
        return os.path.abspath(found)  # it is started in a folder of its own
    found = which("llama-server")
    if found is None and find_spec("xllamacpp") is None:
        raise StartFailed(MISSING)
    return os.path.abspath(found) if found else ""


def command(program: str, order: Order) -> Command:
    """`program` is what the function of that name gave."""
    return _server(program, order) if program else _child(order)


def model_file(order: Order) -> Path:
    """The first .gguf of its files: where a model is in several, they name one another."""
    files = order.files
    return files[min(name for name in files if name.lower().endswith(".gguf"))]


def _server(program: str, order: Order) -> Command:
    argv = [program, "--model", str(model_file(order)), "--host", order.socket]
    argv += ["--alias", order.name, "--parallel", str(order.slots)]
    argv += ["--ctx-size", str(order.slots * order.context)]
    argv += ["--threads", str(order.threads), "--poll", "0", "--jinja"]
    argv += ["--threads-http", str(order.slots + HTTP_THREADS)]
    if order.chat_template is not None:
        argv += ["--chat-template", order.chat_template]
    if order.task is Task.EMBEDDINGS:
        argv += ["--embeddings"]  # a text must fit into one batch
    else:
        argv += ["--batch-size", str(BATCH), "--ubatch-size", str(BATCH)]
    # By the environment: a release that does not know one of these still starts.
    habits = {
        "LLAMA_ARG_CACHE_RAM": str(PROMPT_CACHE),
        "LLAMA_ARG_CORS_CREDENTIALS": "false",
        "LLAMA_ARG_CORS_ORIGINS": "null",
        "LLAMA_ARG_ENDPOINT_METRICS": "false",
        "LLAMA_ARG_ENDPOINT_PROPS": "false",
        "LLAMA_ARG_ENDPOINT_SLOTS": "false",
        "LLAMA_ARG_KV_UNIFIED": "false",
        "LLAMA_ARG_LOG_VERBOSITY": "2",
        "LLAMA_ARG_OFFLINE": "true",
        "LLAMA_ARG_SSE_PING_INTERVAL": "-1",
        "LLAMA_ARG_UI": "false",
    }
    return Command(tuple(argv), habits)


def _child(order: Order) -> Command:
    wish = {
        "model": str(model_file(order)),
        "socket": order.socket,
        "name": order.name,
        "slots": order.slots,
        "context": order.context,
        "threads": order.threads,
        "batch": BATCH,
        "http_threads": order.slots + HTTP_THREADS,
        "prompt_cache": PROMPT_CACHE,
        "chat_template": order.chat_template,
        "embeddings": order.task is Task.EMBEDDINGS,
    }
    return Command((sys.executable, "-I", "-u", str(CHILD), json.dumps(wish)))
