"""What `lakeport top` shows, as cells: pure functions of the live state."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]

ENTITIES = (
    "endpoint", "entity", "model", "state", "replicas", "req/s", "err/s", "p50 ms", "p99 ms",
    "queue", "in flight", "cpu", "memory", "cold",
)  # fmt: skip
REPLICAS = ("endpoint", "entity", "replica", "pid", "cpu", "memory", "limit")
#: Columns that a narrow terminal can do without, the first to go first.
SPARE = ("model", "cold", "limit", "err/s", "in flight", "cpu", "p50 ms", "state", "memory", "pid")
#: Columns whose cells are words; the others are numbers.
WORDS = frozenset(("endpoint", "entity", "model", "state", "replica"))
GAP = 2


def entities(live: Document, name: str | None) -> list[tuple[str, ...]]:
    """A row for each served entity, in the order of ENTITIES."""
    rows: list[tuple[str, ...]] = []
    for endpoint in chosen(live, name):
        state = str(endpoint.get("state") or "")
        found = endpoint.get("entities") or []
        rows += [(str(endpoint.get("name")), *_entity(each, state)) for each in found]
        if not found:
            rows.append((str(endpoint.get("name")), "", "", state, *[""] * (len(ENTITIES) - 4)))
    return rows


def replicas(live: Document, name: str | None) -> list[tuple[str, ...]]:
    """A row for each replica, in the order of REPLICAS."""
    return [
        (
            str(endpoint.get("name")),
            str(entity.get("name")),
            str(replica.get("id")),
            _whole(replica.get("pid")),
            _percent(replica.get("cpu_percent")),
            memory(replica.get("memory_bytes")),
            memory(replica.get("memory_limit_bytes") or None),
        )
        for endpoint in chosen(live, name)
        for entity in endpoint.get("entities") or []
        for replica in entity.get("replicas") or []
    ]


def chosen(live: Document, name: str | None) -> list[Document]:
    """The endpoint of that name, or all."""
    return [each for each in live.get("endpoints") or [] if name in (None, each.get("name"))]


def total(live: Document, name: str | None) -> str:
    """One line on all of them: "3 endpoints, 5 replicas, 1,204 requests/s, 7 waiting"."""
    endpoints = chosen(live, name)
    found = [entity for endpoint in endpoints for entity in endpoint.get("entities") or []]
    counted = (
        (len(endpoints), "endpoint"),
        (sum(len(entity.get("replicas") or []) for entity in found), "replica"),
    )
    words = [f"{count:,} {word}{'' if count == 1 else 's'}" for count, word in counted]
    rate = sum(entity.get("requests_per_second") or 0 for entity in found)
    waiting = sum(entity.get("queue") or 0 for entity in found)
    return ", ".join([*words, f"{number(rate) or 0} requests/s", f"{waiting:,} waiting"])


def fitting(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> tuple[list[str], list[list[str]]]:
    """The columns, and their cells, that a terminal of this width has room for."""
    kept = list(range(len(columns)))
    for spare in (None, *SPARE):
        if spare in columns:
            kept.remove(columns.index(spare))
        widths = [max(len(columns[n]), *(len(row[n]) for row in rows), 0) for n in kept]
        if sum(widths) + GAP * (len(kept) - 1) <= width:
            break
    return [columns[n] for n in kept], [[row[n] for n in kept] for row in rows]


def memory(size: int | None) -> str:
    """ "61 MB", "1.2 GB"; "" for what is not known."""
    if size is None:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def number(value: float | None) -> str:
    """With a digit behind the point where there is but one before it."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"


def _entity(entity: Document, state: str) -> Iterable[str]:
    running: Sequence[Document] = entity.get("replicas") or []
    asleep = bool(entity.get("scaled_to_zero"))
    yield str(entity.get("name"))
    yield f"{entity.get('model') or ''} {entity.get('version') or ''}".strip()
    yield f"{state} (zero)" if asleep else state
    yield str(len(running))
    yield number(entity.get("requests_per_second"))
    yield number(entity.get("errors_per_second"))
    yield number(entity.get("p50_ms"))
    yield number(entity.get("p99_ms"))
    yield _whole(entity.get("queue"))
    yield _whole(entity.get("in_flight"))
    yield _percent(_sum(running, "cpu_percent"))
    yield memory(_sum(running, "memory_bytes"))
    yield _whole(entity.get("cold_starts"))


def _sum(found: Sequence[Document], field: str) -> Any:
    known = [each[field] for each in found if each.get(field) is not None]
    return sum(known) if known else None


def _whole(value: int | None) -> str:
    return "" if value is None else str(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}%"
