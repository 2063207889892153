"""Served entities on the OpenAI wire, and the bodies that they are asked with."""

from dataclasses import replace
from typing import Any

from lakeport.wire.chat import Capabilities, ChatTarget, Operation, Task

USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}

#: As an engine serves a small chat model.
PLAIN = Capabilities(json_schema=True, seed=True, stop=True)
ALL = Capabilities(
    tools=True,
    json_schema=True,
    any_schema=True,
    images=True,
    choices=True,
    logprobs=True,
    seed=True,
    stop=True,
    legacy=True,
    dimensions=True,
)


def outside(task: Task = Task.CHAT, **changes: Any) -> ChatTarget:
    target = ChatTarget(task=task, operations=frozenset({task.operation}), model="gpt-x")
    return replace(target, **changes)


def hosted(task: Task = Task.CHAT, can: Capabilities = PLAIN, **changes: Any) -> ChatTarget:
    operations = {task.operation}
    if task is Task.CHAT:
        operations.add(Operation.COMPLETIONS)
    target = ChatTarget(
        task=task,
        operations=frozenset(operations),
        model="engine",
        can=can,
        answers_as="entity",
    )
    return replace(target, **changes)


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": [USER], **fields}
