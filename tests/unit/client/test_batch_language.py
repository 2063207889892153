"""Batches from file to file for chats and embeddings."""

from pathlib import Path
from typing import Any

import pytest

from lakeport.client.errors import InvalidInput
from tests.unit.client.asks import Asks, total
from tests.unit.client.batch_files import read, run, write


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("column", ["prompt", "question"])
def test_a_chat_gets_one_column_row_by_row(tmp_path: Path, suffix: str, column: str) -> None:
    source = write(tmp_path / f"in{suffix}", [{"id": n, column: f"q{n}"} for n in range(3)])
    seen = []

    async def serve(body: dict[str, Any]) -> Any:
        [message] = body["messages"]
        seen.append(message["content"])
        text = message["content"].upper()
        return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}

    named = {} if column == "prompt" else {"input_column": column}
    run(Asks(serve, task="llm/v1/chat"), source, tmp_path / "out.jsonl", **named)

    assert [row["prediction"] for row in read(tmp_path / "out.jsonl")] == ["Q0", "Q1", "Q2"]
    assert sorted(seen) == ["q0", "q1", "q2"]


def test_a_chat_s_column_must_be_told_when_there_are_several(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", [{"id": 1, "question": "q"}])

    with pytest.raises(InvalidInput, match="input_column"):
        run(Asks(total, task="llm/v1/chat"), source, tmp_path / "out.csv")


def test_messages_of_a_parquet_file_and_lines_of_text(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]
    parquet = write(tmp_path / "in.parquet", [{"messages": messages}])
    lines = tmp_path / "in.jsonl"
    lines.write_text('"hi"\n')
    bodies = []

    async def serve(body: dict[str, Any]) -> Any:
        bodies.append(body)
        return {"choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}}]}

    client = Asks(serve, task="llm/v1/chat")
    run(client, parquet, tmp_path / "out.parquet", fields={"max_tokens": 5})
    run(client, lines, tmp_path / "out.jsonl")

    assert bodies == [
        {"messages": messages, "max_tokens": 5},
        {"messages": [{"role": "user", "content": "hi"}]},
    ]
    assert read(tmp_path / "out.parquet") == [{"messages": messages, "prediction": "yes"}]
    assert read(tmp_path / "out.jsonl") == [{"input": "hi", "prediction": "yes"}]


def test_vectors_of_texts(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", [{"text": "a"}, {"text": "bb"}])

    async def serve(body: dict[str, Any]) -> Any:
        vectors = enumerate([len(text), 0.5] for text in body["input"])
        return {"data": [{"index": n, "embedding": vector} for n, vector in vectors]}

    client = Asks(serve, task="llm/v1/embeddings")
    run(client, source, tmp_path / "out.parquet")

    assert len(client.bodies) == 1
    assert [row["prediction"] for row in read(tmp_path / "out.parquet")] == [[1, 0.5], [2, 0.5]]
