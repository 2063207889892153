"""What a request may ask for, as tables."""

import pytest

from lakeport.control import validation
from lakeport.control.chat_entities import Known
from lakeport.errors import ApiError
from lakeport.stores.records import RouteRecord
from lakeport.wire.endpoints import CoreConfigInput, CreateEndpoint

KNOWN = Known({}, max_tokens=1024)
ONE = {"entity_name": "main.default.iris", "entity_version": "3"}
TWO = [
    {"name": "a", "entity_name": "m", "entity_version": "1"},
    {"name": "b", "entity_name": "m", "entity_version": "2"},
]


def config(**fields: object) -> validation.WishedConfig:
    return validation.config(CoreConfigInput.model_validate(fields), max_entities=15, known=KNOWN)


def entity(**fields: object) -> validation.WishedEntity:
    (only,) = config(served_entities=[ONE | fields]).entities
    return only


def test_defaults_are_those_of_databricks() -> None:
    only = entity()

    assert only.name == "iris-3"
    assert only.workload_size == "Small"
    assert only.workload_type == "CPU"
    assert config(served_entities=[ONE]).routes == (RouteRecord("iris-3", 100),)


def test_a_variable_may_be_a_reference_to_a_secret_and_stays_one() -> None:
    asked = {"A": "{{secrets/my-scope/my.key@1}}", "B": "{{other}}"}

    assert entity(environment_vars=asked).environment == asked


def test_the_older_field_names_mean_the_same() -> None:
    older = config(
        served_models=[{"model_name": "m", "model_version": "2", "scale_to_zero_enabled": True}],
        traffic_config={"routes": [{"served_model_name": "m-2", "traffic_percentage": 100}]},
    )

    assert older.entities[0].entity_name == "m"
    assert older.entities[0].scale_to_zero is True


def test_a_default_name_keeps_the_version_however_long_the_models_is() -> None:
    names = [entity(entity_name="m" * 80, entity_version=version).name for version in ("1", "12")]

    assert names == [f"{'m' * 61}-1", f"{'m' * 60}-12"]
    assert entity(entity_version="@" + "a" * 80).name == "a" * 63
    assert entity(entity_name="...", entity_version="1").name == "1"


def test_entities_and_routes_come_sorted() -> None:
    wish = config(
        served_entities=TWO[::-1],
        traffic_config={
            "routes": [
                {"served_entity_name": "b", "traffic_percentage": 10},
                {"served_model_name": "a", "traffic_percentage": 90},
            ]
        },
    )

    assert [e.name for e in wish.entities] == ["a", "b"]
    assert wish.routes == (RouteRecord("a", 90), RouteRecord("b", 10))


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({}, "INVALID_PARAMETER_VALUE", ["served_entities", "at least one"]),
        ({"served_entities": [ONE] * 2}, "INVALID_PARAMETER_VALUE", ["[1].name", "unique"]),
        (
            {"served_entities": [ONE], "served_models": [ONE]},
            "INVALID_PARAMETER_VALUE",
            ["served_models", "not both"],
        ),
        ({"served_entities": [{}]}, "INVALID_PARAMETER_VALUE", ["[0].entity_name"]),
        (
            {"served_entities": [{"entity_name": "m"}]},
            "INVALID_PARAMETER_VALUE",
            ["[0].entity_version", "@champion"],
        ),
        (
            {"served_entities": [ONE | {"entity_version": "latest"}]},
            "INVALID_PARAMETER_VALUE",
            ["entity_version", "latest"],
        ),
        (
            {"served_entities": [ONE | {"entity_version": "0"}]},
            "INVALID_PARAMETER_VALUE",
            ["entity_version"],
        ),
        (
            {"served_entities": [ONE | {"name": "a b"}]},
            "INVALID_PARAMETER_VALUE",
            ["[0].name", "letters"],
        ),
        (
            {"served_entities": [ONE | {"workload_size": "small"}]},
            "INVALID_PARAMETER_VALUE",
            ["workload_size", "Did you mean 'Small'"],
        ),
        (
            {"served_entities": [ONE | {"workload_type": "TPU"}]},
            "INVALID_PARAMETER_VALUE",
            ["workload_type", "TPU"],
        ),
        (
            {"served_entities": [ONE | {"workload_type": "GPU_SMALL"}]},
            "NOT_IMPLEMENTED",
            ["workload_type", "GPU_SMALL"],
        ),
        (
            {"served_entities": [ONE | {"external_model": {"provider": "openai"}}]},
            "INVALID_PARAMETER_VALUE",
            ["entity_name", "external_model"],
        ),
        (
            {"served_entities": [ONE | {"environment_vars": {"A": "{{ secrets/s/k }}"}}]},
            "INVALID_PARAMETER_VALUE",
            ["environment_vars.A", "{{secrets/scope/key}}"],
        ),
        (
            {"served_entities": [ONE | {"environment_vars": {"A": "Bearer {{secrets/s/k}}"}}]},
            "INVALID_PARAMETER_VALUE",
            ["environment_vars.A", "whole value"],
        ),
        (
            {"served_entities": [ONE | {"environment_vars": {"A": "{{secrets/s}}"}}]},
            "INVALID_PARAMETER_VALUE",
            ["environment_vars.A", "{{secrets/scope/key}}"],
        ),
        (
            {"served_entities": [ONE | {"environment_vars": {"1A": "x"}}]},
            "INVALID_PARAMETER_VALUE",
            ["environment_vars", "1A"],
        ),
        (
            {"served_entities": [ONE | {"environment_vars": {f"V{i}": "x" for i in range(31)}}]},
            "INVALID_PARAMETER_VALUE",
            ["environment_vars", "31", "30"],
        ),
        (
            {"served_entities": [ONE | {"min_provisioned_concurrency": 4}]},
            "INVALID_PARAMETER_VALUE",
            ["max_provisioned_concurrency"],
        ),
        (
            {
                "served_entities": [
                    ONE | {"min_provisioned_concurrency": 6, "max_provisioned_concurrency": 8}
                ]
            },
            "INVALID_PARAMETER_VALUE",
            ["min_provisioned_concurrency", "multiple of 4"],
        ),
        (
            {
                "served_entities": [
                    ONE | {"min_provisioned_concurrency": 12, "max_provisioned_concurrency": 8}
                ]
            },
            "INVALID_PARAMETER_VALUE",
            ["max_provisioned_concurrency", "12"],
        ),
        (
            {
                "served_entities": [
                    ONE | {"workload_size": "Small", "max_provisioned_concurrency": 8}
                ]
            },
            "INVALID_PARAMETER_VALUE",
            ["workload_size", "not both"],
        ),
        ({"served_entities": TWO}, "INVALID_PARAMETER_VALUE", ["traffic_config.routes", "a, b"]),
        (
            {
                "served_entities": TWO,
                "traffic_config": {
                    "routes": [
                        {"served_entity_name": "a", "traffic_percentage": 60},
                        {"served_entity_name": "b", "traffic_percentage": 50},
                    ]
                },
            },
            "INVALID_PARAMETER_VALUE",
            ["routes", "110", "100"],
        ),
        (
            {
                "served_entities": TWO,
                "traffic_config": {
                    "routes": [{"served_entity_name": "c", "traffic_percentage": 100}]
                },
            },
            "INVALID_PARAMETER_VALUE",
            ["routes[0]", "'c'", "a, b"],
        ),
        (
            {"served_entities": [ONE], "auto_capture_config": {"catalog_name": "c"}},
            "NOT_IMPLEMENTED",
            ["auto_capture_config"],
        ),
        (
            {"served_entities": [ONE | {"model_name": "other"}]},
            "INVALID_PARAMETER_VALUE",
            ["[0].model_name", "'other'", "entity_name"],
        ),
        (
            {"served_entities": [ONE | {"model_version": "4"}]},
            "INVALID_PARAMETER_VALUE",
            ["[0].model_version", "'4'", "entity_version"],
        ),
    ],
)
def test_a_refusal_names_the_field_and_what_was_expected(
    fields: dict[str, object], code: str, words: list[str]
) -> None:
    with pytest.raises(ApiError) as refusal:
        config(**fields)

    assert refusal.value.error_code == code
    for word in words:
        assert word in refusal.value.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ai_gateway", {"usage_tracking_config": {"enabled": True}}),
        ("rate_limits", [{"calls": 1}]),
        ("route_optimized", True),
        ("telemetry_config", {"table_names": {}}),
    ],
)
def test_what_does_nothing_yet_is_refused_by_name(field: str, value: object) -> None:
    request = CreateEndpoint.model_validate({"name": "e", field: value})

    with pytest.raises(ApiError) as refusal:
        validation.create(request, max_entities=15, known=KNOWN)

    assert (refusal.value.status, refusal.value.error_code) == (501, "NOT_IMPLEMENTED")
    assert refusal.value.message.startswith(field)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a/b",
        "../x",
        "a" * 64,
        "-a",
        "_a",
        "ä",
        "a\x00",
        "a\n",
        "a.b",
        "databricks-x",
    ],
)
def test_names_that_no_endpoint_may_have(name: str) -> None:
    with pytest.raises(ApiError) as refusal:
        validation.endpoint_name(name)

    assert refusal.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("name", ["a", "A-1_b", "a" * 63, "0"])
def test_names_that_an_endpoint_may_have(name: str) -> None:
    assert validation.endpoint_name(name) == name


def test_an_endpoint_without_a_config_is_legal() -> None:
    assert validation.create(CreateEndpoint(name="e"), max_entities=15, known=KNOWN) is None
