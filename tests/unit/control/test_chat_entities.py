"""Served entities on the OpenAI wire: what may be asked for, and what becomes of it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lakeport.control import chat_entities, validation
from lakeport.control.chat_entities import FixedTarget, Known, parse_fixed
from lakeport.errors import ApiError
from lakeport.models.catalogue import CatalogueModel
from lakeport.runtimes.base import Kind
from lakeport.wire.chat import Capabilities, Operation, Task
from lakeport.wire.endpoints import CoreConfigInput

CHAT = CatalogueModel(
    "system.ai.small", Task.CHAT, "llama.cpp", (), 2048, Capabilities(json_schema=True)
)
EMBED = CatalogueModel("system.ai.embed", Task.EMBEDDINGS, "embedder", (), 256)
BIG = CatalogueModel("system.ai.big", Task.CHAT, "vllm", (), 8192)
KNOWN = Known({model.name: model for model in (CHAT, EMBED, BIG)}, max_tokens=1024)


def config(*entities: dict[str, Any], **more: Any) -> validation.WishedConfig:
    request = CoreConfigInput.model_validate({"served_entities": list(entities)} | more)
    return validation.config(request, max_entities=15, known=KNOWN)


def only(**fields: Any) -> validation.WishedEntity:
    (entity,) = config({"entity_name": "system.ai.small"} | fields).entities
    return entity


def refusal(*entities: dict[str, Any], **more: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        config(*entities, **more)
    return refused.value


def test_a_catalogue_model_needs_no_version() -> None:
    entity = only()

    assert (entity.kind, entity.entity_version, entity.name) == (Kind.ENGINE, "1", "small-1")
    assert entity.chat is not None
    assert entity.chat.operations == {Operation.CHAT, Operation.COMPLETIONS}
    assert (entity.chat.model, entity.chat.answers_as) == ("small-1", "small-1")
    assert entity.chat.default_max_tokens == 1024
    assert only(entity_version="1") == entity


def test_an_embedding_model_answers_embeddings_alone() -> None:
    entity = only(entity_name="system.ai.embed")

    assert entity.chat is not None
    assert entity.chat.operations == {Operation.EMBEDDINGS}
    assert entity.chat.default_max_tokens is None


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"entity_name": "system.ai.nobody"}, "RESOURCE_DOES_NOT_EXIST", "system.ai.small"),
        ({"entity_version": "2"}, "RESOURCE_DOES_NOT_EXIST", 'version "1" only'),
        ({"entity_version": "@champion"}, "RESOURCE_DOES_NOT_EXIST", 'version "1" only'),
        ({"workload_type": "GPU_SMALL"}, "INVALID_PARAMETER_VALUE", "runs on a CPU"),
        ({"model_name": "iris"}, "INVALID_PARAMETER_VALUE", "model_name: 'iris' differs"),
        ({"workload_type": "TPU"}, "INVALID_PARAMETER_VALUE", "workload_type"),
        (
            {"entity_name": "system.ai.big", "workload_type": "CPU"},
            "INVALID_PARAMETER_VALUE",
            "runs on a GPU only",
        ),
        (
            {"provisioned_model_units": 50, "min_provisioned_throughput": 10},
            "INVALID_PARAMETER_VALUE",
            "not both",
        ),
        (
            {"min_provisioned_throughput": 10, "max_provisioned_throughput": 5},
            "INVALID_PARAMETER_VALUE",
            "min_provisioned_throughput: 10",
        ),
    ],
)
def test_what_a_catalogue_model_cannot_be_asked_for(
    fields: dict[str, Any], code: str, said: str
) -> None:
    refused = refusal({"entity_name": "system.ai.small"} | fields)

    assert refused.error_code == code
    assert said in refused.message


@pytest.mark.parametrize(
    "field",
    ["min_provisioned_throughput", "max_provisioned_throughput", "provisioned_model_units"],
)
def test_throughput_is_a_number_and_no_boolean(field: str) -> None:
    with pytest.raises(ValidationError, match=f"{field}\n.*not a boolean"):
        only(**{field: True})
    assert only(**{field: 50.0}).provisioned == {field: 50}


def test_throughput_of_a_registered_model_is_refused_by_name() -> None:
    refused = refusal({"entity_name": "m", "entity_version": "1", "provisioned_model_units": 50})

    assert (refused.status, refused.message.split(":")[0]) == (
        501,
        "served_entities[0].provisioned_model_units",
    )


def test_kinds_and_tasks_are_not_mixed() -> None:
    routes = {
        "traffic_config": {
            "routes": [
                {"served_entity_name": "a", "traffic_percentage": 50},
                {"served_entity_name": "b", "traffic_percentage": 50},
            ]
        }
    }
    small = {"name": "a", "entity_name": "system.ai.small"}
    registered = {"name": "b", "entity_name": "m", "entity_version": "1"}
    embed = {"name": "b", "entity_name": "system.ai.embed"}

    assert "cannot be mixed" in refusal(small, registered, **routes).message
    assert "share one task" in refusal(small, embed, **routes).message
    assert len(config(small, small | {"name": "b"}, **routes).entities) == 2


def test_targets_of_flags(tmp_path: Path) -> None:
    gguf, script = tmp_path / "m.gguf", tmp_path / "s.yml"
    gguf.write_bytes(b"GGUF and more")
    script.touch()

    def parsed(target: str) -> FixedTarget:
        return parse_fixed("databricks-x", target, Task.CHAT)

    assert parsed("system.ai.small").model == "system.ai.small"
    assert (parsed(str(gguf)).kind, parsed(str(gguf)).path) == (Kind.ENGINE, str(gguf))
    assert parsed(f"scripted:{script}").kind is Kind.SCRIPTED
    outside = parsed("http://localhost:11434/v1#llama3.2")
    assert (outside.kind, outside.url, outside.model) == (
        Kind.EXTERNAL,
        "http://localhost:11434/v1",
        "llama3.2",
    )


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://localhost:11434/v1", "names no model; expected URL#MODEL"),
        ("scripted:nowhere.yml", "does not exist; expected a YAML file"),
        ("nowhere.gguf", "does not exist; expected a GGUF file"),
        ("FOLDER", "is a model in safetensors, which runs on a GPU only"),
        ("FOLDER/empty.gguf", "empty.gguf is not a GGUF file"),
        ("models:/iris/1", "nothing that can be served here"),
        ("", "nothing that can be served here"),
    ],
)
def test_targets_that_are_nothing(target: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty.gguf").touch()

    (tmp_path / "model.safetensors").touch()

    with pytest.raises(ValueError) as refused:
        parse_fixed("x", target.replace("FOLDER", str(tmp_path)), Task.CHAT)

    assert said in str(refused.value)


def test_a_fixed_entity_has_its_models_task_and_says_when_it_is_scripted(tmp_path: Path) -> None:
    entity = chat_entities.fixed_entity(
        FixedTarget("databricks-x", Task.CHAT, Kind.ENGINE, model="system.ai.small"), KNOWN
    )
    scripted = chat_entities.fixed_entity(
        FixedTarget("x", Task.CHAT, Kind.SCRIPTED, path=str(tmp_path / "s.yml")), KNOWN
    )
    with pytest.raises(ApiError) as refused:
        chat_entities.fixed_entity(
            FixedTarget("x", Task.EMBEDDINGS, Kind.ENGINE, model="system.ai.small"), KNOWN
        )

    assert entity.chat is not None
    assert (entity.name, entity.chat.can) == ("databricks-x", CHAT.can)
    assert "Scripted" in (scripted.foundation or {})["description"]
    assert "llm/v1/chat" in refused.value.message


@pytest.mark.parametrize("name", ["databricks-claude", "a", "a" * 63])
def test_names_that_a_flag_may_give(name: str) -> None:
    validation.fixed_name(name)


@pytest.mark.parametrize("name", ["", "databricks-" + "a" * 53, "a b", "-a"])
def test_names_that_no_flag_may_give(name: str) -> None:
    with pytest.raises(ApiError, match="is not a valid endpoint name"):
        validation.fixed_name(name)
