import pytest

from lakeport.providers.base import KeyUnavailable
from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.variables import revealed

VALUES = {
    "{{secrets/s/k}}": "in clear",
    "{{secrets/s/nested}}": "{{secrets/s/k}}",
    "{{secrets/s/nul}}": "a\0b",
}


class Known:
    async def reveal(self, reference: str) -> str:
        if reference not in VALUES:
            raise KeyUnavailable(f"the secret {reference} does not exist")
        return VALUES[reference]

    def seal(self, value: str) -> str:
        raise AssertionError("nothing is sealed here")


async def test_what_is_exactly_a_reference_is_replaced_once() -> None:
    given = {
        "A": "{{secrets/s/k}}",
        "B": "plain",
        "C": "{{secrets/s/k}} ",
        "D": "x{{secrets/s/k}}",
        "E": "sealed:a:b",
        "F": "{{secrets/s/nested}}",
        "G": "",
    }

    found = await revealed(given, Known())

    assert found == given | {"A": "in clear", "F": "{{secrets/s/k}}"}
    assert given["A"] == "{{secrets/s/k}}"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("{{secrets/s/none}}", r"\{\{secrets/s/none\}\} does not exist"),
        ("{{secrets/s/nul}}", r"\{\{secrets/s/nul\}\} has a NUL"),
    ],
)
async def test_a_value_that_cannot_be_had_names_variable_and_secret(
    reference: str, words: str
) -> None:
    with pytest.raises(StartFailed, match=f"variable TOKEN cannot be set: .*{words}"):
        await revealed({"TOKEN": reference}, Known())


async def test_without_a_vault_there_are_no_references() -> None:
    assert await revealed({"A": "b"}, None) == {"A": "b"}
    with pytest.raises(StartFailed, match="variable A"):
        await revealed({"A": "{{secrets/s/k}}"}, None)
