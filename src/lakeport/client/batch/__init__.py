"""Many inputs: in order, in few requests, with an error for each that fails.

    for item in client.batch("iris", rows):
        print(item.index, item.prediction, item.error)

    client.batch_file("iris", "in.parquet", "out.parquet")

**What an item is.** A record (dict), a row (list, tuple, one-dimensional array) and a plain value
are one row of a classic model: neighbours of one form travel in one request, up to `chunk_rows`
rows and about `chunk_bytes` bytes. So do the rows of a DataFrame or array that is given as `items`
itself, and the texts for an embeddings endpoint. Everything else goes alone: a DataFrame or an
array of more dimensions among the items, a whole request body, and for a chat endpoint a string
(the user's message), a list of messages or a body.

**What fails.** A request that is refused with 400 or 413 is split until the bad row stands alone.
A request is sent again by `lakeport.client.retry`'s rule, with `retry.deadline` alone as the bound
where it was not run; a 429 or 503 makes the whole batch wait, not one worker. What no later row
could survive ends the batch, by raising: a token that is refused, an endpoint that is gone,
`retry.deadline` seconds without any answer, or `HOPELESS` requests that failed before any was
answered.
"""

from lakeport.client.batch.engine import HOPELESS
from lakeport.client.batch.job import batch_file, batch_file_async
from lakeport.client.batch.many import batch, batch_async
from lakeport.client.batch.results import BatchItem, BatchProgress, BatchReport

__all__ = [
    "HOPELESS",
    "BatchItem",
    "BatchProgress",
    "BatchReport",
    "batch",
    "batch_async",
    "batch_file",
    "batch_file_async",
]
