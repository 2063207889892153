"""LitServe: $BENCH_WORKERS workers that predict, two HTTP processes, batches of $BENCH_BATCH."""

import itertools
import os
from typing import Any

import litserve as ls
from common import Predict, Rows

WORKERS = int(os.environ["BENCH_WORKERS"])
BATCH = int(os.environ.get("BENCH_BATCH", "1"))


class Api(ls.LitAPI):  # type: ignore[misc, unused-ignore]
    def setup(self, device: str) -> None:
        self._predict = Predict()

    def decode_request(self, request: dict[str, Any]) -> Rows:
        rows: Rows = request["input"]
        return rows

    def batch(self, inputs: list[Rows]) -> Rows:
        self._sizes = [len(rows) for rows in inputs]
        return list(itertools.chain.from_iterable(inputs))

    def predict(self, rows: Rows) -> list[Any]:
        return self._predict(rows)

    def unbatch(self, output: list[Any]) -> list[list[Any]]:
        rest = iter(output)
        return [list(itertools.islice(rest, size)) for size in self._sizes]

    def encode_response(self, output: list[Any]) -> dict[str, Any]:
        return {"predictions": output}


if __name__ == "__main__":
    batching = {"max_batch_size": BATCH, "batch_timeout": 0.002} if BATCH > 1 else {}
    server = ls.LitServer(
        Api(**batching), accelerator="cpu", workers_per_device=WORKERS, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        num_api_servers=2,
        log_level="warning",
    )
