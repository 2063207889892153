"""What events say of a change that somebody asked for: pure functions."""

from collections.abc import Sequence

from lakeport.stores.records import EntityRecord, RouteRecord

#: Served entities that one message names; more are counted.
NAMED = 10


def update(entities: Sequence[EntityRecord], routes: Sequence[RouteRecord]) -> str:
    """ "Config update started: a (iris 1) 90%, b (iris 2) 10%." """
    shares = {route.entity: route.percentage for route in routes}
    said = ", ".join(f"{e.name} ({_model(e)}) {shares.get(e.name, 0)}%" for e in entities[:NAMED])
    more = f" and {len(entities) - NAMED} more" if len(entities) > NAMED else ""
    return f"Config update started: {said}{more}."


def _model(entity: EntityRecord) -> str:
    followed = f" by {entity.entity_version}" if entity.entity_version.startswith("@") else ""
    return f"{entity.entity_name or entity.name} {entity.resolved_version}".rstrip() + followed
