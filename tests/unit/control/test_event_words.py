"""What events say of a change: what it is about, and no more than one reads."""

from lakeport.control.event_words import NAMED, update
from lakeport.stores.records import EntityRecord, RouteRecord


def entity(name: str, version: str, resolved: str) -> EntityRecord:
    return EntityRecord(
        name=name,
        entity_name="iris",
        entity_version=version,
        resolved_version=resolved,
        model_key="key",
        since_version=1,
    )


def test_an_update_names_each_entity_its_model_and_its_share() -> None:
    entities = [entity("a", "1", "1"), entity("b", "@champion", "4"), entity("c", "2", "2")]
    routes = [RouteRecord("a", 90), RouteRecord("b", 10)]

    assert update(entities, routes) == (
        "Config update started: a (iris 1) 90%, b (iris 4 by @champion) 10%, c (iris 2) 0%."
    )


def test_a_long_list_is_counted() -> None:
    said = update([entity(f"e{n}", "1", "1") for n in range(NAMED + 3)], [])

    assert said.endswith(f"e{NAMED - 1} (iris 1) 0% and 3 more.")
