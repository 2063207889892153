"""What a request asks for, checked: pure functions from wire types to a wish.

Every refusal names the field and what was expected. What Databricks can do and Lakeport cannot yet
is refused by name with NOT_IMPLEMENTED: an accepted limit that limits nothing would be a lie.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakeport.control import chat_entities, external
from lakeport.control.chat_entities import CATALOGUE_PREFIX, Known
from lakeport.errors import InvalidParameter, NotImplementedYet
from lakeport.models.catalogue import CatalogueModel
from lakeport.runtimes.base import Kind
from lakeport.serving.autoscale import Bounds
from lakeport.stores.records import EntityRecord, RouteRecord
from lakeport.wire.chat import ChatTarget
from lakeport.wire.endpoints import (
    CoreConfigInput,
    CreateEndpoint,
    ServedEntityInput,
    Tag,
    TrafficConfig,
)
from lakeport.wire.secrets import resembles_reference

#: Letters, digits, `-` and `_`; 1 to 63 characters (Databricks' documentation).
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
#: Names of Databricks' own foundation model endpoints.
RESERVED_PREFIX = "databricks-"
VERSION = re.compile(r"[1-9][0-9]{0,9}")
ALIAS = re.compile(r"@[A-Za-z0-9_.-]{1,255}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
#: Size to the least and the most replicas of it.
SIZES = {"Small": (1, 1), "Medium": (2, 4), "Large": (4, 16)}
#: Databricks' other workload types, newest SDK included.
OTHER_TYPES = (
    "CPU_MEDIUM", "CPU_LARGE", "GPU_SMALL", "GPU_MEDIUM", "GPU_LARGE", "GPU_XLARGE", "GPU_XLARGE_8",
    "MULTIGPU_MEDIUM",
)  # fmt: skip
MAX_VARIABLES = 30
MAX_CONCURRENCY = 1024
#: Requests that one replica takes at a time; provisioned concurrency comes in multiples of it.
PER_REPLICA = 4
MAX_TAGS = 50
MAX_DESCRIPTION = 4096


@dataclass(frozen=True, slots=True)
class WishedEntity:
    """A served entity as asked for, with every default filled in."""

    name: str
    entity_name: str
    entity_version: str
    workload_type: str
    workload_size: str | None
    min_concurrency: int | None
    max_concurrency: int | None
    scale_to_zero: bool
    environment: Mapping[str, str]
    kind: Kind = Kind.MODEL
    chat: ChatTarget | None = None
    #: As `EntityRecord.external`, with keys that were given in plain text still so.
    external: Mapping[str, Any] | None = None
    provisioned: Mapping[str, int] = field(default_factory=dict)
    #: Where it stands in the request, for messages: "config.served_entities[0]"; "" for a flag's.
    at: str = ""


@dataclass(frozen=True, slots=True)
class WishedConfig:
    #: Sorted by name.
    entities: tuple[WishedEntity, ...]
    routes: tuple[RouteRecord, ...]


def fixed_name(name: str) -> None:
    """Raises InvalidParameter unless a flag may give an endpoint this name."""
    if not NAME.fullmatch(name):
        raise InvalidParameter(
            f"name: {_shown(name)} is not a valid endpoint name; expected 1 to 63 letters, digits, "
            "'-' and '_', starting with a letter or digit."
        )


def endpoint_name(name: str) -> str:
    """Raises InvalidParameter unless `name` may be an endpoint's name."""
    fixed_name(name)
    if name.startswith(RESERVED_PREFIX):
        raise InvalidParameter(
            f"name: {_shown(name)} is reserved; names that start with '{RESERVED_PREFIX}' are "
            "those of foundation model endpoints."
        )
    return name


#: Fields that Databricks knows, and what they are for.
_ENDPOINT_NOT_YET = {
    "ai_gateway": "AI Gateway",
    "rate_limits": "Rate limits",
    "route_optimized": "Route optimization",
    "telemetry_config": "Telemetry",
}
_ENTITY_NOT_YET = {
    "foundation_model": "Foundation models",
    "instance_profile_arn": "Instance profiles",
}
_THROUGHPUT = {
    "min_provisioned_throughput": "Provisioned throughput of registered models",
    "max_provisioned_throughput": "Provisioned throughput of registered models",
    "provisioned_model_units": "Provisioned model units of registered models",
}


def create(request: CreateEndpoint, *, max_entities: int, known: Known) -> WishedConfig | None:
    """The config that a create request asks for, or None where it has none."""
    endpoint_name(request.name)
    _refuse_fields(request, _ENDPOINT_NOT_YET, "")
    tags(request.tags or [])
    if request.description is not None and len(request.description) > MAX_DESCRIPTION:
        raise InvalidParameter(
            f"description: {len(request.description)} characters; "
            f"expected at most {MAX_DESCRIPTION}."
        )
    if request.config is None:
        return None
    wish = config(
        request.config, max_entities=max_entities, known=known, at="config.", may_be_empty=True
    )
    return wish if wish.entities else None


def tags(given: Sequence[Tag], at: str = "tags") -> dict[str, str | None]:
    """Tags by key. Raises InvalidParameter for a key given twice."""
    found: dict[str, str | None] = {}
    for position, tag in enumerate(given):
        if tag.key in found:
            raise InvalidParameter(f"{at}[{position}].key: {_shown(tag.key)} is given twice.")
        found[tag.key] = tag.value
    if len(found) > MAX_TAGS:
        raise InvalidParameter(f"{at}: {len(found)} tags; expected at most {MAX_TAGS}.")
    return found


def config(
    request: CoreConfigInput,
    *,
    max_entities: int,
    known: Known,
    at: str = "",
    may_be_empty: bool = False,
) -> WishedConfig:
    """The config that a request asks for. `at` is where it stands, for messages."""
    capture: Mapping[str, Any] = request.auto_capture_config or {}
    if capture and capture.get("enabled") is not False:
        raise _not_yet(f"{at}auto_capture_config", "Inference tables")
    if request.served_entities and request.served_models:
        raise InvalidParameter(
            f"{at}served_models: give either served_entities or served_models (its older name), "
            "not both."
        )
    field = "served_models" if request.served_models else "served_entities"
    asked = request.served_entities or request.served_models or []
    if not asked and not may_be_empty:
        raise InvalidParameter(f"{at}served_entities: expected at least one served entity.")
    if len(asked) > max_entities:
        raise InvalidParameter(
            f"{at}{field}: {len(asked)} served entities; expected at most {max_entities}."
        )
    entities: dict[str, WishedEntity] = {}
    for position, given in enumerate(asked):
        where = f"{at}{field}[{position}]."
        entity = _entity(given, where, known, older=field == "served_models")
        if entity.name in entities:
            raise InvalidParameter(
                f"{where}name: '{entity.name}' is the name of another served entity; names must "
                "be unique within an endpoint."
            )
        entities[entity.name] = entity
    chat_entities.refuse_mixture(
        {entity.name: (entity.kind, entity.chat) for entity in entities.values()}, f"{at}{field}"
    )
    routes = _routes(request.traffic_config, tuple(entities), f"{at}traffic_config")
    return WishedConfig(tuple(entities[name] for name in sorted(entities)), routes)


def _entity(given: ServedEntityInput, at: str, known: Known, *, older: bool) -> WishedEntity:
    _refuse_fields(given, _ENTITY_NOT_YET, at)
    if given.external_model is not None:
        return _external(given, at, known)
    name_field, version_field = (
        ("model_name", "model_version") if older else ("entity_name", "entity_version")
    )
    for newer, older_field in (("entity_name", "model_name"), ("entity_version", "model_version")):
        one, other = getattr(given, newer), getattr(given, older_field)
        if one and other and one != other:
            raise InvalidParameter(
                f"{at}{older_field}: {_shown(other)} differs from {newer} {_shown(one)}; they name "
                "the same thing."
            )
    model = given.entity_name or given.model_name
    version = given.entity_version or given.model_version
    if model and model.startswith(CATALOGUE_PREFIX):
        found = chat_entities.find(known.catalogue, model, f"{at}{name_field}")
        version = chat_entities.catalogue_version(version, model, f"{at}{version_field}")
        return _hosted(given, found, version, at, max_tokens=known.max_tokens)
    _refuse_fields(given, _THROUGHPUT, at)
    if not model:
        raise InvalidParameter(f"{at}{name_field}: expected the name of a registered model.")
    if "\x00" in model or len(model) > 255:
        raise InvalidParameter(
            f"{at}{name_field}: {_shown(model)} is not the name of a registered model."
        )
    if not version:
        raise InvalidParameter(
            f"{at}{version_field}: expected a version of '{model}' as a number (\"1\") or an "
            'alias ("@champion").'
        )
    if not VERSION.fullmatch(version) and not ALIAS.fullmatch(version):
        raise InvalidParameter(
            f"{at}{version_field}: {_shown(version)} is not a version; expected a number as text "
            '("1") or an alias ("@champion").'
        )
    name = _entity_name(given.name or _default_name(model, version), at)
    kind = given.workload_type or "CPU"
    if kind in OTHER_TYPES:
        raise NotImplementedYet(
            f"{at}workload_type: '{kind}' is not supported by Lakeport yet; use 'CPU'."
        )
    if kind != "CPU":
        raise InvalidParameter(f"{at}workload_type: {_shown(kind)} is unknown; expected 'CPU'.")
    size, low, high = _size(given, at)
    return WishedEntity(
        name=name,
        entity_name=model,
        entity_version=version,
        workload_type=kind,
        workload_size=size,
        min_concurrency=low,
        max_concurrency=high,
        scale_to_zero=bool(given.scale_to_zero_enabled),
        environment=_environment(given.environment_vars or {}, f"{at}environment_vars"),
        at=at.removesuffix("."),
    )


def _hosted(
    given: ServedEntityInput, model: CatalogueModel, version: str, at: str, *, max_tokens: int
) -> WishedEntity:
    """A model of the catalogue, in an engine."""
    name = _entity_name(given.name or _default_name(model.name, version), at)
    kind = chat_entities.workload_type(
        model, given.workload_type, OTHER_TYPES, f"{at}workload_type"
    )
    size, low, high = _size(given, at)
    return WishedEntity(
        name=name,
        entity_name=model.name,
        entity_version=version,
        workload_type=kind,
        workload_size=size,
        min_concurrency=low,
        max_concurrency=high,
        scale_to_zero=bool(given.scale_to_zero_enabled),
        environment=_environment(given.environment_vars or {}, f"{at}environment_vars"),
        kind=Kind.ENGINE,
        chat=chat_entities.hosted_target(
            model.task, name, model.can, context=model.context, max_tokens=max_tokens
        ),
        provisioned=chat_entities.provisioned(given, at),
        at=at.removesuffix("."),
    )


#: Fields of hosted entities, which say nothing of an external model.
_HOSTED_ONLY = (
    "entity_name", "entity_version", "model_name", "model_version", "workload_type",
    "workload_size", "scale_to_zero_enabled", "min_provisioned_concurrency",
    "max_provisioned_concurrency", "environment_vars", "min_provisioned_throughput",
    "max_provisioned_throughput", "provisioned_model_units",
)  # fmt: skip


def _external(given: ServedEntityInput, at: str, known: Known) -> WishedEntity:
    """A model at an outside server."""
    for name in _HOSTED_ONLY:
        if getattr(given, name):
            raise InvalidParameter(
                f"{at}{name}: an external model has none; leave out this or external_model."
            )
    stored, target = external.check(
        given.external_model or {}, f"{at}external_model", known.refuses
    )
    return WishedEntity(
        name=_entity_name(
            given.name or chat_entities.external_entity_name(str(stored["name"])), at
        ),
        entity_name="",
        entity_version="",
        workload_type="",
        workload_size=None,
        min_concurrency=None,
        max_concurrency=None,
        scale_to_zero=False,
        environment={},
        kind=Kind.EXTERNAL,
        chat=target,
        external=stored,
        at=at.removesuffix("."),
    )


def _entity_name(name: str, at: str) -> str:
    if not NAME.fullmatch(name):
        raise InvalidParameter(
            f"{at}name: {_shown(name)} is not a valid served entity name; expected 1 to 63 "
            "letters, digits, '-' and '_', starting with a letter or digit."
        )
    return name


def _default_name(model: str, version: str) -> str:
    """The model's last name part with its version, as Databricks names served entities."""
    last = re.sub(r"[^A-Za-z0-9_-]", "-", model.rpartition(".")[2]).lstrip("-_")
    which = re.sub(r"[^A-Za-z0-9_-]", "-", version.lstrip("@"))
    # A long name is cut before the version, which tells two entities of one model apart.
    return f"{last[: max(0, 62 - len(which))]}-{which}".lstrip("-_")[:63]


def _size(given: ServedEntityInput, at: str) -> tuple[str | None, int | None, int | None]:
    low, high = given.min_provisioned_concurrency, given.max_provisioned_concurrency
    if low is None and high is None:
        size = given.workload_size or "Small"
        if size not in SIZES:
            close = difflib.get_close_matches(size.title(), SIZES, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise InvalidParameter(
                f"{at}workload_size: {_shown(size)} is unknown; expected one of "
                f"{', '.join(SIZES)}.{hint}"
            )
        return size, None, None
    if given.workload_size is not None:
        raise InvalidParameter(
            f"{at}workload_size: give either workload_size or min_provisioned_concurrency and "
            "max_provisioned_concurrency, not both."
        )
    if high is None:
        raise InvalidParameter(
            f"{at}max_provisioned_concurrency: expected with min_provisioned_concurrency."
        )
    if low is None:
        low = 0 if given.scale_to_zero_enabled else PER_REPLICA
    for name, value in (
        ("min_provisioned_concurrency", low),
        ("max_provisioned_concurrency", high),
    ):
        if value % PER_REPLICA or not 0 <= value <= MAX_CONCURRENCY:
            raise InvalidParameter(
                f"{at}{name}: {value}; expected a multiple of {PER_REPLICA} from 0 to "
                f"{MAX_CONCURRENCY}."
            )
    if high == 0 or low > high:
        raise InvalidParameter(
            f"{at}max_provisioned_concurrency: {high}; expected at least {PER_REPLICA} and no "
            f"less than min_provisioned_concurrency ({low})."
        )
    if low == 0 and not given.scale_to_zero_enabled:
        raise InvalidParameter(
            f"{at}min_provisioned_concurrency: 0; expected at least {PER_REPLICA} unless "
            "scale_to_zero_enabled is true."
        )
    return None, low, high


def _environment(given: Mapping[str, str], at: str) -> dict[str, str]:
    if len(given) > MAX_VARIABLES:
        raise InvalidParameter(f"{at}: {len(given)} variables; expected at most {MAX_VARIABLES}.")
    for name, value in given.items():
        if not VARIABLE.fullmatch(name):
            raise InvalidParameter(
                f"{at}: {_shown(name)} is not a variable's name; expected letters, digits and "
                "'_', not starting with a digit."
            )
        if "\x00" in value:
            raise InvalidParameter(f"{at}.{name}: the value has a NUL character.")
        if resembles_reference(value):
            raise InvalidParameter(
                f"{at}.{name}: a reference to a secret must be the whole value, exactly "
                "{{secrets/scope/key}}."
            )
    return dict(given)


def _routes(
    traffic: TrafficConfig | None, names: tuple[str, ...], at: str
) -> tuple[RouteRecord, ...]:
    given = (traffic.routes if traffic else None) or []
    if not given:
        if len(names) > 1:
            raise InvalidParameter(
                f"{at}.routes: expected a traffic percentage for each of the {len(names)} served "
                f"entities ({', '.join(names)})."
            )
        return tuple(RouteRecord(name, 100) for name in names)
    shares: dict[str, int] = {}
    for position, route in enumerate(given):
        where = f"{at}.routes[{position}]"
        one, other = route.served_entity_name, route.served_model_name
        if one and other and one != other:
            raise InvalidParameter(
                f"{where}: served_entity_name '{one}' and served_model_name '{other}' differ; "
                "they name the same thing."
            )
        name = one or other
        if not name:
            raise InvalidParameter(f"{where}.served_entity_name: expected a served entity's name.")
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise InvalidParameter(
                f"{where}.served_entity_name: {_shown(name)} is no served entity of this config; "
                f"it has: {', '.join(names) or 'none'}.{hint}"
            )
        if name in shares:
            raise InvalidParameter(f"{where}.served_entity_name: '{name}' is given twice.")
        shares[name] = route.traffic_percentage
    total = sum(shares.values())
    if total != 100:
        raise InvalidParameter(
            f"{at}.routes: the traffic percentages sum to {total}; expected 100."
        )
    return tuple(RouteRecord(name, shares[name]) for name in sorted(shares))


def _refuse_fields(given: Any, fields: Mapping[str, str], at: str) -> None:
    """Raises NotImplementedYet for the first of `fields` (name to feature) that is set."""
    for name, feature in fields.items():
        if getattr(given, name):
            raise _not_yet(f"{at}{name}", feature)


def _not_yet(field: str, feature: str) -> NotImplementedYet:
    return NotImplementedYet(f"{field}: not supported by Lakeport yet ({feature}); leave it out.")


def _shown(text: str) -> str:
    """User text for a message: quoted, printable and short."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def bounds(entity: EntityRecord) -> Bounds:
    """How many replicas an entity may have.

    Small is one replica of four concurrent requests, Medium two to four (8 to 16), Large four to
    sixteen (16 to 64); a range of one's own counts in fours. One that may scale to zero has its
    least number, and at least one, as soon as it is asked.
    """
    if entity.kind not in (Kind.MODEL, Kind.ENGINE):
        return Bounds(1, 1, to_zero=False)  # nothing of it runs here
    if entity.workload_size is not None:
        low, high = SIZES[entity.workload_size]
    else:
        low = max(1, (entity.min_concurrency or 0) // PER_REPLICA)
        high = max(low, (entity.max_concurrency or 0) // PER_REPLICA)
    return Bounds(low, high, to_zero=entity.scale_to_zero)
