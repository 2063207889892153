"""A real embedding model in our own embedder, as catalogue and runtime set it up."""

import array
import asyncio
import base64
import math
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lakeport.runtimes.engine.engine_replica import EngineReplica
from lakeport.runtimes.engine.runtime import EngineRuntime
from tests.integration.engines import Talk, deployment, engine_of, opened, talking, until
from tests.models.fixtures import PutWeights

MODEL = "all-minilm-l6-v2"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(
    tmp_path_factory: pytest.TempPathFactory, put_weights: PutWeights
) -> AsyncIterator[EngineRuntime]:
    home: Path = tmp_path_factory.mktemp("embedder")
    await asyncio.to_thread(put_weights, home, MODEL)
    async with opened(home) as runtime:
        await runtime.prepare(deployment(MODEL))
        yield runtime


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica(runtime: EngineRuntime) -> EngineReplica:
    return await runtime.start(deployment(MODEL), "r1")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def talk(replica: EngineReplica) -> AsyncIterator[Talk]:
    async with talking(replica) as talk:
        yield talk


async def embedded(talk: Talk, *texts: str, **more: Any) -> list[list[float]]:
    status, answer = await talk.post("embeddings", input=list(texts), **more)
    assert status == 200, answer
    assert [each["index"] for each in answer["data"]] == list(range(len(texts)))
    return [each["embedding"] for each in answer["data"]]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def test_an_answer_has_the_shape_of_openai_and_the_entity_s_name(talk: Talk) -> None:
    status, answer = await talk.post("embeddings", input="Hello, world", model="whatever")

    (only,) = answer["data"]
    assert (status, answer["object"], answer["model"]) == (200, "list", "my-entity")
    assert (only["object"], only["index"], len(only["embedding"])) == ("embedding", 0, 384)
    assert math.isclose(math.hypot(*only["embedding"]), 1, abs_tol=1e-5)
    # [CLS] hello , world [SEP]
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


async def test_what_means_the_same_lies_close(talk: Talk) -> None:
    dog, puppy, tax = await embedded(
        talk, "A dog runs in the park.", "A puppy plays outside.", "Quarterly tax returns are due."
    )

    assert cosine(dog, puppy) > cosine(dog, tax) + 0.2


async def test_a_text_has_the_same_vector_in_any_company(talk: Talk) -> None:
    (alone,) = await embedded(talk, "short")

    among = await embedded(talk, "a much longer text " * 20, "short", "ein Text", "short")

    assert among[1] == among[3] == alone


async def test_base64_holds_the_same_numbers(talk: Talk) -> None:
    (plain,) = await embedded(talk, "Hello")
    (coded,) = await embedded(talk, "Hello", encoding_format="base64")

    numbers = array.array("f", base64.b64decode(str(coded)))
    assert numbers.tolist() == pytest.approx(plain, abs=1e-7)


async def test_many_texts_come_in_their_order(talk: Talk) -> None:
    texts = [f"number {n}" for n in range(100)]
    many = await embedded(talk, *texts)

    for n in (0, 41, 99):
        assert many[n] == (await embedded(talk, texts[n]))[0]


async def test_usage_counts_every_token(talk: Talk) -> None:
    counts = []
    for texts in (["one"], ["one two three"], ["one", "one two three"]):
        _, answer = await talk.post("embeddings", input=texts)
        counts.append(answer["usage"]["total_tokens"])

    assert counts == [3, 5, 8]


async def test_what_is_too_long_is_refused_or_cut_where_one_asks_for_it(talk: Talk) -> None:
    long = "word " * 300
    status, answer = await talk.post("embeddings", input=["fine", long])

    assert status == 400
    assert "input[1] has 302 tokens, and this model takes at most 256" in answer["error"]["message"]
    cut, fits = await embedded(talk, long, "word " * 254, truncate_prompt_tokens=-1)
    assert cut == fits


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "`input` must be a text or a list of 1 to 2048 texts"),
        ({"input": []}, "`input` must be a text or a list of 1 to 2048 texts"),
        ({"input": ["a"] * 2049}, "a list of 1 to 2048 texts"),
        ({"input": ["a", ""]}, "input[1] must be a text, and not empty"),
        ({"input": ["a", None]}, "input[1] must be a text, and not empty"),
        ({"input": [[101, 102]]}, "check_embedding_ctx_length=False"),
        ({"input": [101, 102]}, "check_embedding_ctx_length=False"),
        ({"input": "a", "encoding_format": "int8"}, "must be 'float' or 'base64'"),
        ({"input": "a", "encoding_format": ["float"]}, "must be 'float' or 'base64'"),
        ({"input": "a", "dimensions": 64}, "`dimensions` is not supported"),
        ({"input": "a", "truncate_prompt_tokens": 7}, "`truncate_prompt_tokens` must be -1"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    talk: Talk, body: dict[str, Any], said: str
) -> None:
    status, answer = await talk.post("embeddings", **body)

    assert status == 400
    assert said in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"{", b"[1]", b"", b'{"input": "\\ud800"}'])
async def test_a_body_that_is_no_request_is_refused(talk: Talk, body: bytes) -> None:
    async with talk.session.post("/v1/embeddings", data=body) as answer:
        assert answer.status == 400
        assert "error" in await answer.json()


async def test_there_is_nothing_else_to_ask_for(talk: Talk) -> None:
    status, answer = await talk.post("chat/completions", messages=[])

    assert (status, answer["error"]["type"]) == (404, "not_found_error")


async def test_several_requests_are_worked_on_at_once(talk: Talk) -> None:
    large = asyncio.create_task(embedded(talk, *["a long text of many words " * 20] * 60))
    await asyncio.sleep(0)

    await embedded(talk, "a small one")

    assert not large.done()
    assert len(await large) == 60


async def test_work_of_a_caller_that_hung_up_is_left(talk: Talk, replica: EngineReplica) -> None:
    engine = engine_of(replica)
    body = {"input": ["a long text of many words " * 30] * 2000}
    asking = asyncio.create_task(talk.post("embeddings", **body))
    before = engine.cpu_times().user
    await until(lambda: engine.cpu_times().user > before + 0.2)

    asking.cancel()
    await asyncio.wait([asking])

    at = engine.cpu_times().user
    while True:  # until it has done nothing for half a second
        await asyncio.sleep(0.5)
        if (now := engine.cpu_times().user) - at < 0.05:
            break
        at = now
    assert now - before < 10  # all of it would take more than a minute


async def test_a_crash_tells_its_reason_and_another_starts(runtime: EngineRuntime) -> None:
    spec = deployment(MODEL, id="d2")
    replica = await runtime.start(spec, "r1")

    engine_of(replica).send_signal(signal.SIGKILL)

    assert await replica.exited == "killed by SIGKILL"
    again = await runtime.start(spec, "r2")
    async with talking(again) as talk:
        assert await embedded(talk, "Hello")
    await again.stop(grace=5)
