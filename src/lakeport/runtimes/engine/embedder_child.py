"""Answers OpenAI's `/v1/embeddings` on a unix socket, by an ONNX sentence transformer.

    python -I -u embedder_child.py '{"model": ..., "tokenizer": ..., "socket": ..., ...}'

As all-MiniLM does it: the mean of the last layer's vectors, brought to length 1. Each text is
worked on alone, several side by side: on a processor a batch gains little, and pads every text to
the longest. What is longer than the model's context is refused, since a vector of its beginning
would look as good as any; `"truncate_prompt_tokens": -1` (vLLM's word) has its end ignored instead,
as the sentence transformers do.

A script of its own: of Lakeport it needs nothing. `embedder.py` starts it, under a guard.
"""

import asyncio
import base64
import json
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import orjson
import uvicorn
from tokenizers import Encoding, Tokenizer

Vector = npt.NDArray[np.float32]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Inputs of one request, as OpenAI has it.
MAX_INPUTS = 2048
#: Texts that one request works on before others have their turn.
TURN = 16
#: Seconds that an idle connection is kept.
KEEP_ALIVE = 75


class Refused(Exception):
    """A request that cannot be answered as it is: 400."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One request."""

    texts: list[str]
    base64: bool
    #: Whether a text that is too long is cut; otherwise it is refused.
    cut: bool


def read(body: bytes) -> Wish:
    """Raises Refused."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"the body is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise Refused("the body must be a JSON object with `input`")
    if document.get("dimensions") is not None:
        raise Refused("`dimensions` is not supported: this model's vectors have one length")
    form = document.get("encoding_format") or "float"
    if form not in ("float", "base64"):  # not a set: it may be a list
        raise Refused("`encoding_format` must be 'float' or 'base64'")
    cut = document.get("truncate_prompt_tokens")
    if cut not in (None, -1):
        raise Refused("`truncate_prompt_tokens` must be -1: as many as the model takes")
    return Wish(_texts(document.get("input")), base64=form == "base64", cut=cut is not None)


def _texts(given: object) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_INPUTS:
        raise Refused(f"`input` must be a text or a list of 1 to {MAX_INPUTS} texts")
    for position, text in enumerate(texts):
        if isinstance(text, int | list):
            raise Refused(
                "`input` holds token ids, which mean nothing to another model's tokenizer: send "
                "texts (LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
            )
        if not isinstance(text, str) or not text:
            raise Refused(f"input[{position}] must be a text, and not empty")
    return texts


class Embedder:
    """The model with its tokenizer."""

    def __init__(self, model: str, tokenizer: str, *, context: int, threads: int) -> None:
        self.context = context
        self._whole, self._cutting = Tokenizer.from_file(tokenizer), Tokenizer.from_file(tokenizer)
        # Its file may say that every text is padded to some length, and cut there.
        for each in (self._whole, self._cutting):
            each.no_padding()
            each.no_truncation()
        self._cutting.enable_truncation(context)
        options = onnxruntime.SessionOptions()
        # Texts are worked on side by side instead: that needs no barrier after each step.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # it would keep the most that was ever needed
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {each.name for each in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0].name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embed")

    async def embed(self, wish: Wish) -> tuple[list[Vector], int]:
        """A vector for each text, and how many tokens they were. Raises Refused."""
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(self._pool, self._encode, wish)
        vectors: list[Vector] = []
        for begin in range(0, len(encoded), TURN):
            turn = encoded[begin : begin + TURN]
            vectors += await asyncio.gather(
                *(loop.run_in_executor(self._pool, self._vector, one.ids) for one in turn)
            )
        return vectors, sum(len(one.ids) for one in encoded)

    def _encode(self, wish: Wish) -> list[Encoding]:
        tokenizer = self._cutting if wish.cut else self._whole
        encoded: list[Encoding] = tokenizer.encode_batch(wish.texts)
        for position, one in enumerate(encoded):
            if len(one.ids) > self.context:
                raise Refused(
                    f"input[{position}] has {len(one.ids)} tokens, and this model takes at most "
                    f"{self.context}: split it"
                )
        return encoded

    def _vector(self, ids: list[int]) -> Vector:
        row = np.array([ids], dtype=np.int64)
        given = {"input_ids": row, "attention_mask": np.ones_like(row)}
        if "token_type_ids" in self._inputs:
            given["token_type_ids"] = np.zeros_like(row)
        (layer,) = self._session.run([self._output], given)
        mean: Vector = layer[0].mean(axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-12)


class App:
    """The ASGI application."""

    def __init__(self, embedder: Embedder, name: str) -> None:
        self._embedder = embedder
        self._name = name

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        match scope["method"], scope["path"]:
            case "GET", "/health":
                await _answer(send, 200, {"status": "ok"})
            case "POST", "/v1/embeddings":
                await self._embeddings(receive, send)
            case _:
                await _answer(send, 404, _error("there is no such route", "not_found_error"))

    async def _embeddings(self, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        if body is None:
            return
        work = asyncio.create_task(self._embedded(body))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                status, document = work.result()
                await _answer(send, status, document)
        finally:  # a caller that has hung up: what is left of its texts is not worked on
            work.cancel()
            gone.cancel()

    async def _embedded(self, body: bytes) -> tuple[int, dict[str, Any]]:
        try:
            wish = read(body)
            vectors, tokens = await self._embedder.embed(wish)
        except Refused as refused:
            return 400, _error(str(refused), "invalid_request_error")
        return 200, {
            "object": "list",
            "model": self._name,
            "data": [
                {"object": "embedding", "index": index, "embedding": shown(vector, wish)}
                for index, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


def shown(vector: Vector, wish: Wish) -> Vector | str:
    """As numbers, or as their bytes: 32 bits each, little-endian."""
    if wish.base64:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return vector


def _error(message: str, type: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "code": None}}


async def _body(receive: Receive) -> bytes | None:
    """None: the caller hung up before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: int, document: dict[str, Any]) -> None:
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode("ascii")),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main(wish: dict[str, Any]) -> None:
    embedder = Embedder(
        wish["model"], wish["tokenizer"], context=wish["context"], threads=wish["threads"]
    )
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(wish["socket"])
    config = uvicorn.Config(
        App(embedder, wish["name"]),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
