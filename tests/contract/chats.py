"""The endpoints that the workspace of language models is started with."""

from pathlib import Path

#: Databricks' own name, as code has it: answered by a small model here.
CLAUDE = "databricks-claude-sonnet-4"
EMBEDDINGS = "minilm"
SCRIPTED = "scripted"

CHAT_MODEL = "system.ai.smollm2-135m-instruct"
EMBEDDING_MODEL = "system.ai.all-minilm-l6-v2"

SCRIPT = r"""
rules:
  - match: "busy"
    status: 429
    retry_after: 2
    message: "Come back later."
  - match: "unfit"
    status: 422
    message: "That is not for me."
  - match: "how high is the (\\w+)"
    tool_calls: [{name: height, arguments: {of: tower}}]
  - match: "how high is the (\\w+)"
    after_tool: true
    reply: "The \\1 is 330 metres high."
  - match: "two words"
    reply: "one two"
    usage: {prompt_tokens: 7, completion_tokens: 2}
  - match: "lines"
    reply: "a\u2028b\u0085c : d"
default: "I have no words for that."
"""


def arguments(folder: Path) -> list[str]:
    """Arguments of `lakeport serve`; the script lies in `folder`."""
    script = folder / "script.yml"
    script.write_text(SCRIPT, encoding="utf-8")
    return [
        *("--chat", f"{CLAUDE}={CHAT_MODEL}"),
        *("--chat", f"{SCRIPTED}=scripted:{script}"),
        *("--embeddings", f"{EMBEDDINGS}={EMBEDDING_MODEL}"),
        # The workspace may be its own outside server.
        *("--egress-allow", "127.0.0.1"),
    ]
