"""Served entities on the OpenAI wire: catalogue models, external models, and what flags ask for.

Pure: from what was asked for to a wish.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakeport.control.external import Refuses, operators_server
from lakeport.errors import InvalidParameter, NotFound
from lakeport.models.catalogue import VLLM, Catalogue, CatalogueModel
from lakeport.models.weights_path import CONTEXT, BadWeights, engine_for
from lakeport.runtimes.base import Kind
from lakeport.stores.records import EntityRecord
from lakeport.wire.chat import Capabilities, ChatTarget, Operation, Task
from lakeport.wire.endpoints import ServedEntityInput

#: Names of catalogue models begin so, as those of Databricks' own models do.
CATALOGUE_PREFIX = "system.ai."
#: Catalogue models have one version.
CATALOGUE_VERSION = "1"
#: What a GGUF file that nobody described is taken to do: llama.cpp's grammar works with each.
GGUF = Capabilities(json_schema=True, seed=True, stop=True)


@dataclass(frozen=True, slots=True)
class Known:
    """What control must know of language models to judge a request."""

    catalogue: Catalogue
    #: Tokens of an answer where the caller sets no bound.
    max_tokens: int
    #: Why an external model may not be at a URL; None: it may.
    refuses: Refuses | None = None


def hosted_target(
    task: Task, entity: str, can: Capabilities, *, context: int, max_tokens: int
) -> ChatTarget:
    """How an engine's model is spoken to: it is called as its served entity is."""
    operations = {task.operation}
    if task is Task.CHAT:
        operations.add(Operation.COMPLETIONS)
    return ChatTarget(
        task=task,
        operations=frozenset(operations),
        model=entity,
        can=can,
        default_max_tokens=None if task is Task.EMBEDDINGS else min(max_tokens, context),
        answers_as=entity,
    )


def find(catalogue: Catalogue, name: str, at: str) -> CatalogueModel:
    """The catalogue's model. Raises NotFound naming it and those that there are."""
    model = catalogue.get(name)
    if model is None:
        raise NotFound(
            f"{at}: there is no model '{name[:80]}' in the catalogue. It has: "
            f"{', '.join(sorted(catalogue)) or 'none'}."
        )
    return model


def catalogue_version(version: str | None, model: str, at: str) -> str:
    """Raises NotFound for any version but the one."""
    if version not in (None, "", CATALOGUE_VERSION):
        raise NotFound(
            f"{at}: '{model}' has version \"{CATALOGUE_VERSION}\" only; "
            f"{str(version)[:40]!r} does not exist."
        )
    return CATALOGUE_VERSION


def workload_type(model: CatalogueModel, asked: str | None, known: tuple[str, ...], at: str) -> str:
    """The workload type that the model's engine runs on. Raises InvalidParameter."""
    kind = asked or _usual_workload_type(model)
    if kind != "CPU" and kind not in known:
        raise InvalidParameter(
            f"{at}: {kind[:40]!r} is unknown; expected one of CPU, {', '.join(known)}."
        )
    gpu = "GPU" in kind
    if model.engine == VLLM and not gpu:
        raise InvalidParameter(
            f"{at}: '{model.name}' runs on a GPU only; expected a workload type such as "
            "GPU_SMALL. On a CPU, serve a GGUF file of it instead."
        )
    if gpu and model.engine != VLLM:
        raise InvalidParameter(f"{at}: '{model.name}' runs on a CPU; expected CPU.")
    return kind


def _usual_workload_type(model: CatalogueModel) -> str:
    return "GPU_SMALL" if model.engine == VLLM else "CPU"


def provisioned(given: ServedEntityInput, at: str) -> dict[str, int]:
    """Provisioned throughput as asked for. Raises InvalidParameter for both of its forms."""
    units = given.provisioned_model_units
    low, high = given.min_provisioned_throughput, given.max_provisioned_throughput
    if units is not None and (low is not None or high is not None):
        raise InvalidParameter(
            f"{at}provisioned_model_units: give either provisioned_model_units or "
            "min_provisioned_throughput and max_provisioned_throughput, not both."
        )
    if low is not None and high is not None and low > high:
        raise InvalidParameter(
            f"{at}min_provisioned_throughput: {low}; expected no more than "
            f"max_provisioned_throughput ({high})."
        )
    asked = {
        "min_provisioned_throughput": low,
        "max_provisioned_throughput": high,
        "provisioned_model_units": units,
    }
    return {name: value for name, value in asked.items() if value is not None}


def external_entity_name(model: str) -> str:
    """The default name of an external entity: its model's, as Databricks makes it."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", model).lstrip("-_")[:63] or "external"


# --- flags --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FixedTarget:
    """What `--chat NAME=TARGET` or `--embeddings NAME=TARGET` asks for."""

    name: str
    task: Task
    kind: Kind
    #: Catalogue name, or the model's name at an outside server; "" for files.
    model: str = ""
    #: A file of this machine: .gguf, or a script's YAML.
    path: str | None = None
    #: EXTERNAL: the server's base URL.
    url: str | None = None


def parse_fixed(name: str, target: str, task: Task) -> FixedTarget:
    """Raises ValueError, saying what was expected."""
    if target.startswith("scripted:"):
        path = _file(target.removeprefix("scripted:"), "a YAML file with rules")
        return FixedTarget(name, task, Kind.SCRIPTED, path=path)
    if target.startswith(("http://", "https://")):
        url, _, model = target.partition("#")
        if not model:
            raise ValueError(
                f"{target!r} names no model; expected URL#MODEL, e.g. "
                "http://localhost:11434/v1#llama3.2"
            )
        return FixedTarget(name, task, Kind.EXTERNAL, model=model, url=url.rstrip("/"))
    if target.startswith(CATALOGUE_PREFIX):
        return FixedTarget(name, task, Kind.ENGINE, model=target)
    if target.lower().endswith(".gguf"):
        path = _file(target, "a GGUF file")
    elif target and Path(target).expanduser().exists():
        path = str(Path(target).expanduser().absolute())
    else:
        raise ValueError(
            f"{target!r} is nothing that can be served here; expected system.ai.NAME, FILE.gguf, "
            "URL#MODEL or scripted:FILE.yml"
        )
    try:
        engine_for(Path(path), gpu=False)
    except BadWeights as problem:
        raise ValueError(str(problem)) from problem
    return FixedTarget(name, task, Kind.ENGINE, path=path)


def _file(text: str, what: str) -> str:
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"{text!r} does not exist; expected {what}")
    return str(path)


def fixed_entity(target: FixedTarget, known: Known) -> EntityRecord:
    """The served entity of a fixed endpoint. Raises NotFound for a model that nobody knows,
    InvalidParameter where it has another task."""
    chat: ChatTarget | None = None
    can, context, workload = GGUF, CONTEXT, "CPU"
    external: Mapping[str, Any] | None = None
    if target.kind is Kind.ENGINE and target.path is None:
        model = find(known.catalogue, target.model, target.name)
        if model.task is not target.task:
            raise InvalidParameter(
                f"{target.name}: '{model.name}' answers {model.task}; expected {target.task}."
            )
        can, context = model.can, model.context
        workload = _usual_workload_type(model)
    if target.kind is Kind.EXTERNAL:
        external, chat = operators_server(target.url or "", target.model, target.task)
    elif target.kind is Kind.SCRIPTED:
        chat = ChatTarget(
            task=target.task,
            operations=frozenset({target.task.operation}),
            model=target.name,
            can=Capabilities(
                tools=True, json_schema=True, any_schema=True, images=True, seed=True, stop=True
            ),
            answers_as=target.name,
        )
    else:
        chat = hosted_target(
            target.task, target.name, can, context=context, max_tokens=known.max_tokens
        )
    return EntityRecord(
        name=target.name,
        entity_name=target.model if target.kind is Kind.ENGINE else "",
        entity_version=CATALOGUE_VERSION if target.kind is Kind.ENGINE else "",
        resolved_version=CATALOGUE_VERSION,
        model_key=target.model or target.name,
        path=target.path,
        workload_type=workload,
        kind=target.kind,
        chat=chat,
        external=external,
        foundation=described(target, known.catalogue),
    )


def described(target: FixedTarget, catalogue: Catalogue) -> Mapping[str, str]:
    """How a fixed endpoint's entity is shown, as `foundation_model`."""
    if target.kind is Kind.SCRIPTED:
        return {
            "name": "scripted",
            "display_name": f"Scripted answers ({Path(target.path).name})"
            if target.path
            else "Scripted answers",
            "description": f"Scripted: answers come from a {'file' if target.path else 'script'}; "
            "there is no model behind this.",
        }
    known = catalogue.get(target.model)
    if known is not None:
        return {
            "name": known.name,
            "display_name": known.display_name,
            "description": known.description,
        }
    shown = target.model or Path(target.path or "").name
    what = "A file that this server's operator named."
    if target.kind is Kind.EXTERNAL:
        what = "A model at an outside server that this server's operator named."
    return {"name": shown, "display_name": shown, "description": what}


def refuse_mixture(kinds: Mapping[str, tuple[Kind, ChatTarget | None]], at: str) -> None:
    """Served entities of one endpoint are of one kind, and answer one task.

    `kinds` maps served entity names. Raises InvalidParameter.
    """
    if len({kind for kind, _ in kinds.values()}) > 1:
        raise InvalidParameter(
            f"{at}: registered models, catalogue models (system.ai.*) and external models cannot "
            "be mixed in one endpoint."
        )
    tasks = {target.task for _, target in kinds.values() if target is not None}
    if len(tasks) > 1:
        raise InvalidParameter(
            f"{at}: the served entities of one endpoint share one task; these have "
            f"{' and '.join(sorted(tasks))}."
        )
