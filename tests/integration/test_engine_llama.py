"""A real chat model in the real llama.cpp, as catalogue and runtime set it up.

What is asserted is shape, usage, order and ends; never the wit of an answer.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from lakeport.models.catalogue import load
from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.engine.engine_replica import EngineReplica
from lakeport.runtimes.engine.runtime import EngineRuntime
from tests.integration.engines import Talk, deployment, engine_of, listens, opened, talking, until
from tests.models.fixtures import PutWeights

MODEL = "smollm2-135m-instruct"
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, put_weights: PutWeights) -> Path:
    home = tmp_path_factory.mktemp("llama")
    put_weights(home, MODEL)
    return home


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(home: Path) -> AsyncIterator[EngineRuntime]:
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


async def test_an_answer_has_the_shape_of_openai_and_the_entity_s_name(talk: Talk) -> None:
    answer = await talk.ask("Say hello.", max_tokens=5)

    (choice,) = answer["choices"]
    usage = answer["usage"]
    assert (answer["object"], answer["model"]) == ("chat.completion", "my-entity")
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "length"
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5


async def test_a_word_to_stop_at_ends_it(talk: Talk) -> None:
    whole = (await talk.ask("Count: one, two, three", max_tokens=24))["choices"][0]
    word = whole["message"]["content"].split()[2]

    stopped = (await talk.ask("Count: one, two, three", max_tokens=24, stop=[word]))["choices"][0]

    assert stopped["finish_reason"] == "stop"
    assert word not in stopped["message"]["content"]
    assert whole["message"]["content"].startswith(stopped["message"]["content"])


async def test_a_stream_is_the_answer_in_pieces_with_usage_at_its_end(talk: Talk) -> None:
    whole = await talk.ask("Tell me of the sea.", max_tokens=12)

    chunks = await streamed(talk, "Tell me of the sea.", max_tokens=12)

    *pieces, last = chunks
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in pieces)
    assert text == whole["choices"][0]["message"]["content"]
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert {c["model"] for c in chunks} == {"my-entity"}
    assert pieces[-1]["choices"][0]["finish_reason"] == "length"
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 12)


async def streamed(talk: Talk, text: str, **more: Any) -> list[dict[str, Any]]:
    """Every chunk; the stream consists of data lines and ends with [DONE]."""
    body = {
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        **more,
    }
    async with talk.session.post("/v1/chat/completions", json=body) as answer:
        assert answer.status == 200
        lines = [line for line in (await answer.text()).split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    *events, end = (line.removeprefix("data: ") for line in lines)
    assert end == "[DONE]"
    return [json.loads(event) for event in events]


async def test_a_prompt_is_completed(talk: Talk) -> None:
    status, answer = await talk.post("completions", prompt="Once upon", max_tokens=4)

    assert (status, answer["object"]) == (200, "text_completion")
    assert answer["choices"][0]["text"]
    assert answer["usage"]["completion_tokens"] == 4


async def test_a_json_schema_is_kept_by_grammar(talk: Talk) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 99},
            "colour": {"enum": ["red", "green"]},
        },
        "required": ["name", "age", "colour"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "p", "strict": True, "schema": schema}}
    for seed in range(3):
        answer = await talk.ask(
            "Invent somebody.", response_format=form, temperature=1, seed=seed, max_tokens=200
        )

        choice = answer["choices"][0]
        somebody = json.loads(choice["message"]["content"])
        assert choice["finish_reason"] == "stop"
        assert set(somebody) == {"name", "age", "colour"}
        assert isinstance(somebody["name"], str)
        assert somebody["age"] in range(100)
        assert somebody["colour"] in {"red", "green"}


async def test_logprobs_come_for_each_token(talk: Talk) -> None:
    answer = await talk.ask("Hello", max_tokens=3, logprobs=True, top_logprobs=2)

    tokens = answer["choices"][0]["logprobs"]["content"]
    assert len(tokens) == 3
    assert all(len(token["top_logprobs"]) == 2 and token["logprob"] <= 0 for token in tokens)


async def test_a_seed_gives_the_same_answer_again(talk: Talk) -> None:
    answers = [
        (await talk.ask("Invent a word.", temperature=1.5, seed=seed))["choices"][0]["message"]
        for seed in (7, 7, 7, 8)
    ]

    # The first was computed from the whole prompt, the others from the end of what was kept of it.
    assert answers[1] == answers[2]
    assert answers[2] != answers[3]


async def test_what_the_catalogue_denies_the_engine_cannot_do(talk: Talk) -> None:
    """Should one of these fail, the engine has learnt it: say so in the catalogue."""
    can = load(None)[f"system.ai.{MODEL}"].can
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}

    plain = await talk.ask("Hello")
    tools = await talk.ask("Hello", tools=[tool])
    several = await talk.ask("Hello", n=2, max_tokens=4)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    status, _ = await talk.post(
        "chat/completions", messages=[{"role": "user", "content": [image]}], max_tokens=1
    )

    assert not any([can.tools, can.choices, can.images, can.legacy, can.dimensions])
    assert tools["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]  # dropped in silence
    assert len(several["choices"]) == 2
    assert several["usage"]["completion_tokens"] == 4  # of eight
    assert status >= 400


async def test_a_prompt_that_is_too_long_is_refused_with_the_limit(talk: Talk) -> None:
    messages = [{"role": "user", "content": "word " * 3000}]

    status, answer = await talk.post("chat/completions", messages=messages, max_tokens=1)

    assert status == 400
    assert "2048 tokens" in answer["error"]["message"]


async def test_eight_at_once_are_worked_on_side_by_side(talk: Talk) -> None:
    events: list[str] = []

    async def chat(number: int) -> int:
        body = {
            "messages": [{"role": "user", "content": f"Tell me of the number {number}."}],
            "max_tokens": 48,
            "stream": True,
            "ignore_eos": True,
        }
        async with talk.session.post("/v1/chat/completions", json=body) as answer:
            async for _ in answer.content:
                events.append("begins")
                break
            await answer.read()
        events.append("ends")
        return answer.status

    assert await asyncio.gather(*map(chat, range(8))) == [200] * 8
    assert events == ["begins"] * 8 + ["ends"] * 8


@pytest.mark.parametrize("path", ["/slots", "/metrics", "/"])
async def test_its_other_pages_are_off(talk: Talk, path: str) -> None:
    async with talk.session.get(path, headers={"Origin": "http://elsewhere"}) as answer:
        assert answer.status in {404, 501}
        assert answer.headers.get("Access-Control-Allow-Origin", "") in {"", "null"}


async def test_settings_cannot_be_changed_through_it(talk: Talk) -> None:
    async with talk.session.post("/props", json={"chat_template": "x"}) as answer:
        assert answer.status in {404, 501}


async def test_what_it_said_is_in_the_replica_s_log_without_what_was_asked(
    runtime: EngineRuntime, talk: Talk
) -> None:
    await talk.ask("A-canary-in-a-coal-mine")

    log = runtime.logs("d1")
    assert "[r1] llama.cpp listens at unix:" in log
    assert "[r1] [lakeport] the engine is ready" in log
    assert "canary" not in log


async def test_a_crash_tells_its_reason_and_another_starts(runtime: EngineRuntime) -> None:
    spec = deployment(MODEL, id="d2")
    replica = await runtime.start(spec, "r1")
    async with talking(replica) as talk:
        asking = asyncio.create_task(talk.ask("Go on", max_tokens=1500, ignore_eos=True))
        engine = engine_of(replica)
        engine.send_signal(signal.SIGKILL)

        assert await replica.exited == "killed by SIGKILL"
        with pytest.raises(OSError):  # aiohttp's ServerDisconnectedError is one
            await asking

    again = await runtime.start(spec, "r2")
    async with talking(again) as talk:
        assert await talk.ask("Hello")
    await again.stop(grace=5)
    assert not listens(again)


async def test_a_file_that_is_no_model_says_so(runtime: EngineRuntime, tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    spec = deployment("broken", id="d3", path=str(file))

    with pytest.raises(StartFailed, match="while it loaded the model: ") as told:
        await runtime.start(spec, "r1")

    assert str(tmp_path) not in str(told.value)


SERVER = """
import asyncio, sys
from pathlib import Path
from tests.integration.engines import deployment, engine_of, opened

async def main():
    async with opened(Path(sys.argv[1])) as runtime:
        replica = await runtime.start(deployment(sys.argv[2]), "r1")
        print(replica.pid, engine_of(replica).pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_nothing_outlives_a_server_that_is_killed(
    tmp_path: Path, put_weights: PutWeights
) -> None:
    await asyncio.to_thread(put_weights, tmp_path, MODEL)
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    argv = [sys.executable, "-c", SERVER, str(tmp_path), MODEL]
    with subprocess.Popen(argv, env=os.environ | paths, stdout=subprocess.PIPE) as server:  # noqa: ASYNC220
        assert server.stdout is not None
        line = await asyncio.to_thread(server.stdout.readline)
        pids = [int(pid) for pid in line.split()]
        assert len(pids) == 2

        server.kill()

        await until(lambda: not any(map(psutil.pid_exists, pids)))
