"""What may be handed on of a server's words."""

import pytest

from lakeport.providers.cleaning import MAX_MESSAGE, Cleaner

KEY = "canary-7f3e/9b21+d5"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"your key {KEY} is bad", "your key [key] is bad"),
        ("key canary-7f3e%2F9b21%2Bd5 is bad", "key [key] is bad"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer [key]"),
        ("api-key: 0123456789abcdef", "api-key: [key]"),
        ("api_key=0123456789abcdef", "api_key=[key]"),
        ("Incorrect API key provided: sk-proj-ab12****9xyz.", "Incorrect API key provided: [key]"),
        ("sk-1234567890abcdef", "[key]"),
        ("dapi0123456789abcdef0123", "[key]"),
        ("hf_abcdefghijklmnop", "[key]"),
        ("see https://platform.openai.com/account/api-keys.", "see [url]"),
        ('at "http://10.0.0.7:8000/v1"', 'at "[url]"'),
        ("connect to 10.0.0.7:8000 failed", "connect to [address] failed"),
        ("connect to 127.0.0.1", "connect to [address]"),
        ("[fd12::7]:443 is away", "[address] is away"),
        ("from ::1 and fe80::1%eth0", "from [address] and [address]"),
        ("model.example:8443 is away", "[address] is away"),
        ("model.example is away", "[address] is away"),
        ("vllm-0.default.svc.cluster.local:80", "[address]"),
        ("localhost:11434 refused", "[address] refused"),
        ("File /srv/models/llama.gguf is missing", "File [path] is missing"),
        ("in ~/models/llama/x.py, line 3", "in [path], line 3"),
        (r"in C:\models\llama.gguf", "in [path]"),
    ],
)
def test_what_is_taken_out(text: str, cleaned: str) -> None:
    assert Cleaner([KEY], ["model.example:8443", "model.example"]).text(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 4096 tokens (3000 in the messages, 2000 asked).",
        "`temperature` must be between 0 and 2; see llm/v1/chat and/or input/output",
        "8.8.8.8 is public, version 1.2.3.4567, at 12:30:45",
        "tool_choice: 'auto' | token generation: bearer authentication, basic understanding",
        "Grüße 日本",
        "",
    ],
)
def test_what_stays(text: str) -> None:
    assert Cleaner([KEY, "abc", ""]).text(text) == text


def test_every_text_of_a_value() -> None:
    value = {"a": [KEY, {KEY: 1}], "b": None, "c": 1.5, "d": True}
    assert Cleaner([KEY]).value(value) == {
        "a": ["[key]", {"[key]": 1}],
        "b": None,
        "c": 1.5,
        "d": True,
    }


def test_depth_and_length_are_bounded() -> None:
    deep: object = KEY
    for _ in range(100):
        deep = [deep]
    assert KEY not in repr(Cleaner([KEY]).value(deep))
    text = Cleaner([KEY]).text("a" * (MAX_MESSAGE - 5) + KEY)
    assert len(text) <= MAX_MESSAGE
    assert "canary" not in text


@pytest.mark.parametrize(
    "piece",
    ["a", "1.", ":", "/a", "sk-", "bearer ", "api_key=", "a.", "http://", "é", "\\", "x-", "[::"],
)
def test_hostile_text_comes_to_an_end(piece: str) -> None:
    """An expression that takes cubic or exponential steps would run into the test's time limit."""
    assert len(Cleaner([KEY]).text(piece * (65536 // len(piece)))) <= MAX_MESSAGE
