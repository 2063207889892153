"""A server with language models: a small real one, embeddings, and answers from a script."""

from pathlib import Path

from tests.integration.server import ServerProcess

#: 135 million parameters: it talks, and is seldom right.
TINY = "tiny"
EMBEDDINGS = "minilm"
#: What needs more wit than that.
SCRIPTED = "scripted"

MODELS = ("smollm2-135m-instruct", "all-minilm-l6-v2")

SCRIPT = r"""
rules:
  - match: "^How high is the (\\w+)"
    tool_calls: [{name: height, arguments: {of: tower}}]
  - match: "^How high is the (\\w+)"
    after_tool: true
    reply: "The \\1 is 330 metres high."
  - match: "^Both"
    tool_calls: [{name: height, arguments: {of: tower}}, {name: age, arguments: {of: tower}}]
  - match: "^busy$"
    status: 429
    retry_after: 1
    message: "Come back later."
  - match: "^broken$"
    status: 500
    message: "It is out of order."
  - match: "^once$"
    replies: ["first", "second"]
    usage: {prompt_tokens: 7, completion_tokens: 1}
  - match: "^cut$"
    reply: "no end to"
    finish_reason: length

  # What LangChain's standard tests ask.
  - match: "magic_function_no_args"
    tool_calls: [{name: magic_function_no_args, arguments: {}}]
  - match: "magic_function|^Hello!$"
    tool_calls: [{name: magic_function, arguments: {input: 3}}]
  - match: "Pirate greeting"
    tool_calls: [{name: greeting_generator, arguments: {answer_style: pirate}}]
  - match: "What is the weather"
    tool_calls: [{name: get_weather, arguments: {location: "San Francisco, CA"}}]
  - match: "Create a customer named '(.+?)'"
    tool_calls:
      - {name: unicode_customer, arguments: {customer_name: 你好啊集团 こんにちは, description: d}}
  - match: "joke about cats"
    # The one for who asks for JSON, the other for who asks for a call.
    reply: '{"setup": "Why did the cat sit down?", "punchline": "It was tired."}'
    tool_calls: [{name: Joke, arguments: {setup: "Why did it sit?", punchline: "It was tired."}}]
    finish_reason: stop
  - after_tool: true
    reply: "The tool has answered."
default: "Hello, how are you?"
"""


def language_server(home: Path) -> ServerProcess:
    """A server with the endpoints TINY, EMBEDDINGS and SCRIPTED; it is not started. The models'
    weights should lie in the home already."""
    script = home.with_name("script.yml")
    script.write_text(SCRIPT, encoding="utf-8")
    return ServerProcess(
        home,
        registry="off",
        chat=[f"{TINY}=system.ai.{MODELS[0]}", f"{SCRIPTED}=scripted:{script}"],
        embeddings=f"{EMBEDDINGS}=system.ai.{MODELS[1]}",
    )
