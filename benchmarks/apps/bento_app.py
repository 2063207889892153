"""BentoML: $BENCH_WORKERS workers, and its adaptive batching where $BENCH_BATCH is set."""

import os
from typing import Any

import bentoml
import numpy as np
from common import Predict

BATCH = int(os.environ.get("BENCH_BATCH", "0"))
#: Arrays are quicker than lists here, and what it can batch.
ARRAYS = bool(os.environ["BENCH_NUMBERS"])
Input: Any = np.ndarray if ARRAYS else list[list[Any]]
Output: Any = np.ndarray if ARRAYS else list[Any]
api: Any = bentoml.api
if BATCH:
    api = bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)


@bentoml.service(workers=int(os.environ["BENCH_WORKERS"]))
class Svc:
    def __init__(self) -> None:
        self._predict = Predict()

    @api  # type: ignore[untyped-decorator, unused-ignore]
    def predict(self, input: Input) -> Output:
        found = self._predict(input)
        return np.asarray(found) if ARRAYS else found
