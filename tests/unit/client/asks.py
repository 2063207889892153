"""A client of batches without a server: a function answers in its place."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from lakeport.client.answers import Answer
from lakeport.client.batch import BatchItem
from lakeport.client.encode import Given, encode, to_json
from lakeport.client.endpoint import Endpoint
from lakeport.client.errors import BadRequest, NotFound
from lakeport.client.readings import read_answer
from lakeport.client.retry import Retry
from lakeport.client.signature import Signature

#: The body of a request → that of the answer; raises what the client would raise.
Serve = Callable[[dict[str, Any]], Awaitable[Any]]


class Asks:
    """Encodes as the client does; what is served sees the body that would have been sent."""

    def __init__(
        self, serve: Serve, *, task: str | None = None, signature: Signature | None = None
    ) -> None:
        self._serve = serve
        self._task = task
        self._signature = signature
        self.bodies: list[dict[str, Any]] = []
        self.host = "http://test"
        self.retry = Retry()

    @asynccontextmanager
    async def asynchronous(self) -> AsyncIterator["Asks"]:
        yield self

    async def get(self, name: str, *, refresh: bool = True) -> Endpoint:
        return Endpoint(
            name=name, state="READY", config_update="NOT_UPDATING", url="", task=self._task
        )

    async def signature(self, name: str, *, entity: str | None = None) -> Signature:
        if self._signature is None:
            raise NotFound("no signature")
        return self._signature

    async def query(self, name: str, data: Any = None, **options: Any) -> Answer:
        given = {
            key: options[key] for key in Given.__dataclass_fields__ if options.get(key) is not None
        }
        if data is not None:
            given["data"] = data
        encoded = encode(Given(**given), self._signature, self._task)
        body = orjson.loads(to_json(encoded.document))
        self.bodies.append(body)
        return read_answer(await self._serve(body), endpoint=name)


def rows_of(body: Mapping[str, Any]) -> list[Any]:
    """The rows of a classic request: lists, records or plain values."""
    if "dataframe_split" in body:
        rows: list[Any] = body["dataframe_split"]["data"]
        return rows
    return list(body.get("dataframe_records") or body["inputs"])


async def total(body: dict[str, Any]) -> Any:
    """A model that adds up each row; it refuses all when one of them holds no number."""
    sums = []
    for row in rows_of(body):
        values = row.values() if isinstance(row, dict) else row if isinstance(row, list) else [row]
        if not all(isinstance(value, int | float) for value in values):
            raise BadRequest("no number", status=400, error_code="BAD_REQUEST")
        sums.append(sum(values))
    return {"predictions": sums}


def predictions(items: Iterable[BatchItem]) -> list[Any]:
    return [item.prediction for item in items]
