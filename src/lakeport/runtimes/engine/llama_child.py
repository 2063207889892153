"""Runs the llama.cpp server of the package `xllamacpp` until it is ended.

    python -I -u llama_child.py '{"model": ..., "socket": ..., ...}'

A script of its own: of Lakeport it needs nothing. `llama.py` starts it, under a guard.
"""

import faulthandler
import json
import signal
import sys
from typing import Any

import xllamacpp


def parameters(wish: dict[str, Any]) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path = wish["model"]
    params.model_alias = {wish["name"]}
    params.hostnames = [wish["socket"]]
    params.n_parallel = wish["slots"]
    params.n_ctx = wish["slots"] * wish["context"]
    params.cpuparams.n_threads = wish["threads"]
    params.cpuparams_batch.n_threads = wish["threads"]
    # Threads that have nothing to do sleep: spinning would take the cores from everybody else.
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    params.n_threads_http = wish["http_threads"]
    params.cache_ram_mib = wish["prompt_cache"]
    if wish["chat_template"] is not None:
        params.chat_template = wish["chat_template"]
    params.embedding = wish["embeddings"]
    if not params.embedding:  # there, a text must fit into one batch
        params.n_batch = params.n_ubatch = wish["batch"]
    # It would measure the memory that is free, and take less context where that is little.
    params.fit_params = False
    params.offline = True
    params.ui = False
    params.endpoint_metrics = params.endpoint_props = params.endpoint_slots = False
    params.sse_ping_interval = -1
    params.cors_origins = params.cors_methods = params.cors_headers = ""
    params.cors_credentials = False
    params.verbosity = 2  # warnings; a line for each request would bury what a reader looks for
    return params


if __name__ == "__main__":
    faulthandler.enable()  # an instruction that this processor lacks is told as such
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    server = xllamacpp.Server(parameters(json.loads(sys.argv[1])))
    print(f"llama.cpp listens at {server.listening_address}", flush=True)  # noqa: T201
    while True:
        signal.pause()
