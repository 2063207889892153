import click
import pytest
from click.testing import CliRunner

from lakeport.cli.endpoints import serving_endpoints
from lakeport.cli.endpoints_verbs import VERBS
from lakeport.cli.main import lakeport

#: Verbs and positional arguments of `databricks serving-endpoints`; start and stop are ours.
THEIRS = {
    "build-logs": ["NAME", "SERVED_MODEL_NAME"],
    "create": ["[NAME]"],
    "create-provisioned-throughput-endpoint": ["[NAME]"],
    "delete": ["NAME"],
    "export-metrics": ["NAME"],
    "get": ["NAME"],
    "get-open-api": ["NAME"],
    "get-permission-levels": ["SERVING_ENDPOINT_ID"],
    "get-permissions": ["SERVING_ENDPOINT_ID"],
    "list": [],
    "logs": ["NAME", "SERVED_MODEL_NAME"],
    "patch": ["NAME"],
    "patch-telemetry-config": ["NAME"],
    "put": ["NAME"],
    "put-ai-gateway": ["NAME"],
    "query": ["NAME"],
    "set-permissions": ["SERVING_ENDPOINT_ID"],
    "update-config": ["NAME"],
    "update-notifications": ["NAME"],
    "update-permissions": ["SERVING_ENDPOINT_ID"],
    "update-provisioned-throughput-endpoint-config": ["NAME"],
}


def test_the_verbs_and_their_arguments_are_databricks_own() -> None:
    ours = {
        name: [
            argument.make_metavar(click.Context(command))
            for argument in command.params
            if isinstance(argument, click.Argument)
        ]
        for name, command in serving_endpoints.commands.items()
    }

    assert ours == THEIRS | {"start": ["NAME"], "stop": ["NAME"]}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_each_verb_says_how_it_is_used(verb: object) -> None:
    name, example = verb.name, verb.example  # type: ignore[attr-defined]

    said = CliRunner().invoke(lakeport, ["endpoints", name, "-h"], terminal_width=300).output

    assert f"lakeport serving-endpoints {example}" in said
    for option in ("--profile", "--output", "--host", "--quiet"):
        assert option in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create"], "has no name"),
        (["create", "a", "--json", '{"name": "b"}'], "says \"name\": 'b', and the command line"),
        (["create", "a", "--description", "x", "--json", '{"description": "y"}'], '"description"'),
        (["create", "--json", "[]"], "must be a JSON object"),
        (["create", "a", "--timeout", "1 day"], "not a duration"),
        (["update-config", "a"], "Missing option '--json'"),
        (["patch", "a", "--json", "@/nowhere"], "No such file"),
        (["get"], "Missing argument 'NAME'"),
        (["get", ""], "'NAME': it is empty"),
        (["get-permissions", ""], "'SERVING_ENDPOINT_ID': it is empty"),
        (["destroy"], "No such command 'destroy'"),
        (["list", "-o", "csv"], "'csv' is not one of"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_sent(
    arguments: list[str], message: str
) -> None:
    result = CliRunner().invoke(lakeport, ["serving-endpoints", *arguments])

    assert result.exit_code == 2
    assert message in result.stderr
