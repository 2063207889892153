"""The command lines of engines."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.engine import embedder, llama, vllm
from lakeport.runtimes.engine.command import Order
from lakeport.wire.chat import Task

GGUF = {"model-00002-of-2.gguf": Path("/w/b.gguf"), "model-00001-of-2.gguf": Path("/w/a.gguf")}


def order(**more: Any) -> Order:
    given: dict[str, Any] = {
        "name": "my entity",
        "task": Task.CHAT,
        "files": GGUF,
        "hub": None,
        "socket": "/run/s/1.sock",
        "slots": 8,
        "context": 2048,
        "threads": 3,
        "memory_limit": 0,
    }
    return Order(**given | more)


def after(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_a_llama_server_gets_socket_name_and_a_context_for_each_slot() -> None:
    made = llama.command("/opt/llama-server", order())

    assert made.argv[0] == "/opt/llama-server"
    assert after(made.argv, "--model") == "/w/a.gguf"
    assert after(made.argv, "--host") == "/run/s/1.sock"
    assert after(made.argv, "--alias") == "my entity"
    assert (after(made.argv, "--parallel"), after(made.argv, "--ctx-size")) == ("8", "16384")
    assert made.environment["LLAMA_ARG_UI"] == "false"
    assert made.environment["LLAMA_ARG_SSE_PING_INTERVAL"] == "-1"
    # Short batches: it looks for callers who hung up between two of them.
    assert (after(made.argv, "--batch-size"), after(made.argv, "--ubatch-size")) == ("128", "128")
    assert after(made.argv, "--threads-http") == "16"
    assert "--embeddings" not in made.argv
    assert "--chat-template" not in made.argv


def test_a_file_given_by_path_may_be_spelt_in_capitals() -> None:
    made = llama.command("/opt/llama-server", order(files={"TINY.GGUF": Path("/w/TINY.GGUF")}))

    assert after(made.argv, "--model") == "/w/TINY.GGUF"


def test_a_template_of_the_catalogue_replaces_the_model_s_own() -> None:
    made = llama.command("/opt/llama-server", order(chat_template="{{ messages }}"))

    assert after(made.argv, "--chat-template") == "{{ messages }}"


def test_without_a_llama_server_our_own_child_gets_the_same() -> None:
    made = llama.command("", order(task=Task.EMBEDDINGS))

    wish = json.loads(made.argv[-1])
    assert made.argv[:3] == (sys.executable, "-I", "-u")
    assert (wish["model"], wish["name"], wish["slots"]) == ("/w/a.gguf", "my entity", 8)
    assert (wish["context"], wish["embeddings"]) == (2048, True)
    assert (wish["batch"], wish["http_threads"]) == (128, 16)


def test_a_llama_server_that_is_named_counts_before_one_on_the_path() -> None:
    found = {"mine": "/opt/mine", "llama-server": "/usr/bin/llama-server"}

    assert llama.program("mine", which=found.get) == "/opt/mine"
    assert llama.program("./mine", which=str) == f"{Path.cwd()}/mine"
    assert llama.program(None, which=found.get) == "/usr/bin/llama-server"
    with pytest.raises(StartFailed, match="llama_server names no program: other"):
        llama.program("other", which=found.get)


def test_without_any_llama_cpp_one_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(llama, "find_spec", lambda name: None)

    with pytest.raises(StartFailed, match=r"pip install 'lakeport\[llm\]'"):
        llama.program(None, which=lambda name: None)


def test_without_onnxruntime_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "find_spec", lambda name: None)

    with pytest.raises(StartFailed, match=r"pip install 'lakeport\[llm\]'"):
        embedder.check()


def test_vllm_gets_socket_name_and_length() -> None:
    made = vllm.command(
        "/opt/vllm", order(hub="org/big", files={}, arguments=("--tool-call-parser", "hermes"))
    )

    assert made.argv[:3] == ("/opt/vllm", "serve", "org/big")
    assert after(made.argv, "--uds") == "/run/s/1.sock"
    assert after(made.argv, "--served-model-name") == "my entity"
    assert (after(made.argv, "--max-model-len"), after(made.argv, "--max-num-seqs")) == (
        "2048",
        "8",
    )
    assert made.argv[-2:] == ("--tool-call-parser", "hermes")


def test_vllm_takes_a_folder_or_the_folder_of_its_files(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()

    for files in ({"big": tmp_path}, {"model.safetensors": file}):
        made = vllm.command("/opt/vllm", order(files=files, task=Task.EMBEDDINGS))
        assert made.argv[2] == str(tmp_path)
        assert after(made.argv, "--runner") == "pooling"


@pytest.mark.parametrize(
    ("setting", "workload", "said"),
    [
        (None, "CPU", "workload_type must be one of GPU_"),
        (None, "GPU_SMALL", "install it into an environment of its own"),
        ("nowhere/vllm", "GPU_SMALL", "the setting vllm names no program"),
    ],
)
def test_vllm_without_a_gpu_or_a_program_is_told(
    setting: str | None, workload: str, said: str
) -> None:
    with pytest.raises(StartFailed, match=said):
        vllm.program(setting, workload, which=lambda name: None)
