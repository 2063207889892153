"""Stands in for `llama-server` and `vllm`, which not every machine can run.

It takes their command lines, listens at `--host` or `--uds`, and does what BEHAVIOUR says. What it
was started with is written to `started.json` in its working directory.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

BEHAVIOUR = os.environ.get("BEHAVIOUR", "answers")


def given(*flags: str) -> str:
    return next(sys.argv[sys.argv.index(flag) + 1] for flag in flags if flag in sys.argv)


async def health(request: web.Request) -> web.Response:
    request.app["looks"].append(1)
    loading = len(request.app["looks"]) < 3 or BEHAVIOUR == "loads_for_ever"
    return web.json_response({}, status=503 if loading else 200)


async def answer(request: web.Request) -> web.Response:
    body = await request.json()
    if BEHAVIOUR == "cannot_generate":
        message = f"CUDA error in {Path.home()}/cache/kernel.cu"
        return web.json_response({"error": {"message": message}}, status=500)
    if BEHAVIOUR == "dies_at_work":
        os.kill(os.getpid(), signal.SIGILL)
    if BEHAVIOUR == "hangs_at_work":
        await asyncio.Event().wait()
    return web.json_response({"model": given("--alias", "--served-model-name"), "asked": body})


def main() -> None:
    started = {"argv": sys.argv[1:], "environment": dict(os.environ)}
    Path("started.json").write_text(json.dumps(started))
    print("the engine begins", flush=True)
    if BEHAVIOUR == "raises":
        raise RuntimeError("Failed to infer device type in /opt/venv/vllm/config.py")
    if BEHAVIOUR == "complains":
        print("error: invalid argument: --alias", file=sys.stderr)
        sys.exit(1)
    if BEHAVIOUR == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    app = web.Application()
    app["looks"] = []
    app.router.add_get("/health", health)
    app.router.add_post("/v1/{operation:.*}", answer)
    web.run_app(app, path=given("--host", "--uds"), print=None)


if __name__ == "__main__":
    main()
