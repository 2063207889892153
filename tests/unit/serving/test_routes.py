"""Traffic is split by percentage."""

import random

import pytest

from lakeport.serving.routes import Share, named, pick

A, B, C = Share("a", "d1", 90), Share("b", "d2", 10), Share("c", "d3", 0)


@pytest.mark.parametrize(
    ("draw", "entity"), [(0.0, "a"), (0.5, "a"), (0.8999, "a"), (0.9, "b"), (0.99999, "b")]
)
def test_a_draw_falls_on_a_share(draw: float, entity: str) -> None:
    assert pick((A, B, C), draw).entity == entity


def test_a_share_of_nothing_is_never_picked() -> None:
    assert {pick((C, A, B), i / 1000).entity for i in range(1000)} == {"a", "b"}


def test_the_split_holds_over_many_requests() -> None:
    draw = random.Random(7).random
    picked = [pick((A, B), draw()).entity for _ in range(20_000)]

    assert abs(picked.count("a") / 20_000 - 0.9) < 0.01


def test_an_entity_can_be_asked_for_by_name_even_without_traffic() -> None:
    assert named((A, B, C), "c") is C
    assert named((A, B, C), "x") is None
