"""Who asks for an entity must be allowed to read the secrets that it refers to."""

from collections.abc import Mapping
from typing import Any

import pytest

from lakeport.auth.callers import Caller
from lakeport.control import references
from lakeport.control.validation import WishedConfig, WishedEntity
from lakeport.errors import PermissionDenied
from tests.unit.control.world import PlainVault

ADA = Caller("1", "ada")


class Noting(PlainVault):
    """Takes down what it is asked, and refuses the secret `refused`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def check(self, caller: Caller, reference: str, at: str) -> None:
        assert caller is ADA
        if "refused" in reference:
            raise PermissionDenied(f"{at}: no")
        self.asked.append((reference, at))


def wish(
    environment: Mapping[str, str] | None = None, external: Mapping[str, Any] | None = None
) -> WishedConfig:
    entity = WishedEntity(
        name="e",
        entity_name="m",
        entity_version="1",
        workload_type="CPU",
        workload_size="Small",
        min_concurrency=None,
        max_concurrency=None,
        scale_to_zero=False,
        environment=environment or {},
        external=external,
        at="config.served_models[0]",
    )
    return WishedConfig((entity,), ())


def test_every_reference_is_checked_where_it_stands() -> None:
    secrets = Noting()
    asked = wish(
        {"A": "{{secrets/s/a}}", "B": "plain", "C": "{{secrets/s/c}} "},
        {
            "name": "gpt",
            "openai_config": {"openai_api_key": "{{secrets/s/key}}"},
        },
    )

    references.require(secrets, ADA, asked)

    at = "config.served_models[0]."
    assert secrets.asked == [
        ("{{secrets/s/a}}", f"{at}environment_vars.A"),
        ("{{secrets/s/key}}", f"{at}external_model.openai_config.openai_api_key"),
    ]


def test_one_that_may_not_be_read_refuses_the_whole() -> None:
    with pytest.raises(
        PermissionDenied, match=r"^config\.served_models\[0\]\.environment_vars\.B: "
    ):
        references.require(Noting(), ADA, wish({"A": "x", "B": "{{secrets/s/refused}}"}))


@pytest.mark.parametrize("name", ["A_plaintext", "_plaintext", "openai_api_key_plaintext"])
def test_no_name_of_a_variable_keeps_its_reference_from_being_checked(name: str) -> None:
    with pytest.raises(PermissionDenied, match=f"environment_vars.{name}: "):
        references.require(Noting(), ADA, wish({name: "{{secrets/s/refused}}"}))
