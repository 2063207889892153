"""What a catalogue file may say, and what is said of one that is wrong."""

from pathlib import Path

import pytest

from lakeport.models.catalogue import BadCatalogue, existing, load
from lakeport.wire.chat import Task

SUM = "ab" * 32
GOOD = f"""
["system.ai.mine"]
task = "llm/v1/chat"
engine = "llama.cpp"
context = 4096
can = {{ tools = true, stop = true }}
files = [{{ name = "m.gguf", sha256 = "{SUM}", package = "llm-mine==1.0", member = "mine/m.gguf" }}]
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "catalogue.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_lakeport_knows_a_chat_model_and_an_embedding_model() -> None:
    known = load(None)

    chat = known["system.ai.smollm2-135m-instruct"]
    embeddings = known["system.ai.all-minilm-l6-v2"]
    assert (chat.task, chat.engine, chat.context) == (Task.CHAT, "llama.cpp", 2048)
    assert (embeddings.task, embeddings.engine) == (Task.EMBEDDINGS, "embedder")
    assert all(file.package for model in known.values() for file in model.files)


def test_a_file_adds_to_what_is_known(tmp_path: Path) -> None:
    known = load(written(tmp_path, GOOD))

    mine = known["system.ai.mine"]
    assert "system.ai.smollm2-135m-instruct" in known
    assert (mine.display_name, mine.context) == ("system.ai.mine", 4096)
    assert (mine.can.tools, mine.can.stop, mine.can.seed) == (True, True, False)
    assert mine.files[0].member == "mine/m.gguf"


def test_a_file_may_say_something_else_of_a_name(tmp_path: Path) -> None:
    text = GOOD.replace("system.ai.mine", "system.ai.smollm2-135m-instruct")

    assert load(written(tmp_path, text))["system.ai.smollm2-135m-instruct"].context == 4096


def test_a_model_of_a_hub_needs_no_files(tmp_path: Path) -> None:
    text = """["system.ai.big"]
    task = "llm/v1/chat"
    engine = "vllm"
    context = 8192
    hub = "org/big-7b"
    arguments = ["--tool-call-parser", "hermes"]
    """

    big = load(written(tmp_path, text))["system.ai.big"]
    assert (big.hub, big.files) == ("org/big-7b", ())
    assert big.arguments == ("--tool-call-parser", "hermes")


def test_only_a_file_that_exists_is_read_from_a_home(tmp_path: Path) -> None:
    assert existing(tmp_path / "catalogue.toml") is None
    assert existing(written(tmp_path, GOOD)) == tmp_path / "catalogue.toml"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[", "{", "is not valid TOML"),
        ('"system.ai.mine"', '"mine"', '["mine"]: a name like system.ai.my-model is needed'),
        ('"system.ai.mine"', '"system.ai.a/b"', "a name like system.ai.my-model is needed"),
        ("llm/v1/chat", "chat", '["system.ai.mine"].task: input should be '),
        ("llama.cpp", "ollama", "].engine: input should be 'llama.cpp', 'embedder' or 'vllm'"),
        ("4096", "0", "].context: input should be greater than 0"),
        ("4096", '"4096"', "].context: input should be a valid integer"),
        ("context", "contxt", "].contxt: Extra inputs are not permitted"),
        ("tools", "magic", "].can: 'magic' is none of tools, json_schema,"),
        ("tools = true", 'tools = "yes"', "].can.tools: input should be a valid boolean"),
        (SUM, "abc", "].files[0].sha256: "),
        ("llm-mine==1.0", "llm-mine>=1.0", "].files[0].package: "),
        ("llm-mine==1.0", "--index-url=http://x==1", "].files[0].package: "),
        ("mine/m.gguf", "../m.gguf", "].files[0].member: a path inside the package is needed"),
        ("mine/m.gguf", "/etc/passwd", "].files[0].member: a path inside the package is needed"),
        ('"m.gguf"', '"../m.gguf"', "].files[0].name: a file's name without folders is needed"),
        ('"m.gguf"', '"m.bin"', "llama.cpp needs a .gguf file among `files`"),
        (', member = "mine/m.gguf"', "", "`member` belongs to `package`"),
        ('package = "llm-mine==1.0", ', "", "either `package` or `path` is needed"),
        ('engine = "llama.cpp"', 'engine = "embedder"', "needs model.onnx and tokenizer.json"),
        ('engine = "llama.cpp"', 'engine = "llama.cpp"\nhub = "a/b"', "for the engine vllm"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_file_entry_and_field(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in GOOD
    file = written(tmp_path, GOOD.replace(old, new, 1))

    with pytest.raises(BadCatalogue) as told:
        load(file)

    assert said in str(told.value)
    assert str(file) in str(told.value)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("4096", "0") + GOOD.replace("mine", "other").replace(SUM, "x")

    with pytest.raises(BadCatalogue) as told:
        load(written(tmp_path, text))

    assert len(str(told.value).splitlines()) == 2


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadCatalogue, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")
