from typing import Any

import pytest

from lakeport.cli import endpoints_text as text
from lakeport.cli.output import Output

#: As Lakeport and Databricks show them.
CUSTOM = {
    "name": "iris",
    "id": "13895669d1b14c5383179cfc8af76302",
    "creator": "ana@example.com",
    "creation_timestamp": 1795598178729,
    "state": {"ready": "READY", "config_update": "IN_PROGRESS"},
    "config": {
        "served_entities": [
            {
                "name": "iris-1",
                "entity_name": "main.default.iris",
                "entity_version": "1",
                "state": {"deployment": "DEPLOYMENT_READY", "deployment_state_message": ""},
            }
        ],
        "traffic_config": {"routes": [{"served_model_name": "iris-1", "traffic_percentage": 100}]},
    },
    "pending_config": {
        "served_models": [
            {
                "name": "iris-2",
                "model_name": "main.default.iris",
                "model_version": "2",
                "state": {"deployment": "DEPLOYMENT_CREATING", "deployment_state_message": "Wait"},
            }
        ]
    },
    "tags": [{"key": "team", "value": "risk"}, {"key": "new"}],
}
EXTERNAL = {
    "name": "claude",
    "task": "llm/v1/chat",
    "state": {"ready": "READY", "config_update": "NOT_UPDATING"},
    "config": {
        "served_entities": [
            {"name": "c", "external_model": {"provider": "anthropic", "name": "claude-sonnet-4"}}
        ]
    },
}
FOUNDATION = {
    "name": "databricks-llama",
    "config": {"served_entities": [{"name": "l", "foundation_model": {"name": "llama"}}]},
}
FEATURES = {
    "name": "features",
    "config": {"served_entities": [{"name": "f", "entity_name": "m.d.f"}]},
}


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was printed since it was last asked, by lines."""

    def lines() -> list[str]:
        return capsys.readouterr().out.splitlines()

    return lines


def test_a_list_has_a_line_for_each_endpoint_of_any_kind(said: Any) -> None:
    found = [CUSTOM, EXTERNAL, FOUNDATION, FEATURES, {"name": "empty"}]

    text.endpoints(Output(), {"endpoints": found})
    text.endpoints(Output(), {})

    assert said() == [
        "iris\tREADY\tIN_PROGRESS\t\tmain.default.iris 1",
        "claude\tREADY\tNOT_UPDATING\tllm/v1/chat\tanthropic:claude-sonnet-4",
        "databricks-llama\t\t\t\tllama",
        "features\t\t\t\tm.d.f",
        "empty\t\t\t\t",
    ]


def test_an_endpoint_is_fields_and_the_entities_of_both_configs(said: Any) -> None:
    text.endpoint(Output(), CUSTOM)

    assert said() == [
        "name\tiris",
        "id\t13895669d1b14c5383179cfc8af76302",
        "ready\tREADY",
        "update\tIN_PROGRESS",
        "creator\tana@example.com",
        "created\t2026-11-25 09:16:18+00:00",
        "tags\tteam=risk, new",
        "serves\tiris-1\tmain.default.iris 1\t100%\tDEPLOYMENT_READY\t",
        "pending\tiris-2\tmain.default.iris 2\t\tDEPLOYMENT_CREATING\tWait",
    ]


def test_permissions_are_one_grant_a_line(said: Any) -> None:
    text.permissions(
        Output(),
        {
            "access_control_list": [
                {"user_name": "ana", "all_permissions": [{"permission_level": "CAN_MANAGE"}]},
                {
                    "group_name": "admins",
                    "all_permissions": [{"permission_level": "CAN_MANAGE", "inherited": True}],
                },
                {
                    "service_principal_name": "robot",
                    "all_permissions": [
                        {"permission_level": "CAN_QUERY"},
                        {"permission_level": "CAN_VIEW"},
                    ],
                },
            ]
        },
    )

    assert said() == [
        "ana\tuser\tCAN_MANAGE\t",
        "admins\tgroup\tCAN_MANAGE\tinherited",
        "robot\tprincipal\tCAN_QUERY\t",
        "robot\tprincipal\tCAN_VIEW\t",
    ]


@pytest.mark.parametrize("reply", [{"tags": CUSTOM["tags"]}, CUSTOM["tags"]])
def test_tags_are_shown_in_both_shapes(said: Any, reply: Any) -> None:
    text.tags(Output(), reply)

    assert said() == ["team\trisk", "new\t"]


def test_an_empty_log_is_no_line(said: Any) -> None:
    text.logs(Output(), {"logs": ""})
    text.logs(Output(), {})
    text.logs(Output(), {"logs": "a\nb"})

    assert said() == ["a", "b"]
