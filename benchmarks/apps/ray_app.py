"""Ray Serve: $BENCH_WORKERS replicas; `@serve.batch` where $BENCH_BATCH is set."""

import itertools
import json
import os
import signal
from typing import Any

import ray
from common import Predict, Rows
from ray import serve
from starlette.requests import Request

WORKERS = int(os.environ["BENCH_WORKERS"])
BATCH = int(os.environ.get("BENCH_BATCH", "0"))
QUIET = {"logging_config": {"enable_access_log": False, "log_level": "ERROR"}}


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=256, **QUIET)
class Served:
    def __init__(self) -> None:
        self._predict = Predict()

    async def __call__(self, request: Request) -> dict[str, Any]:
        rows = json.loads(await request.body())["input"]
        return {"predictions": await self._many(rows) if BATCH else self._predict(rows)}

    @serve.batch(max_batch_size=max(BATCH, 1), batch_wait_timeout_s=0.002)
    async def _many(self, inputs: list[Rows]) -> list[list[Any]]:
        rest = iter(self._predict(list(itertools.chain.from_iterable(inputs))))
        return [list(itertools.islice(rest, len(rows))) for rows in inputs]


if __name__ == "__main__":
    passed = {k: v for k, v in os.environ.items() if k.startswith("BENCH") or k == "PYTHONPATH"}
    ray.init(
        num_cpus=4,
        _node_ip_address="127.0.0.1",
        include_dashboard=False,
        object_store_memory=200_000_000,
        runtime_env={"env_vars": passed},
        log_to_driver=False,
        _temp_dir=os.getcwd(),  # else it keeps its logs in /tmp
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])}, **QUIET)
    serve.run(Served.bind(), route_prefix="/predict")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: (ray.shutdown(), os._exit(0)))
    signal.pause()
