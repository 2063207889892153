"""What a model takes and gives, read from an endpoint's OpenAPI page or from an MLmodel file."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """A named column, or a tensor."""

    #: None for a single unnamed tensor.
    name: str | None
    #: MLflow's type: "double", "long", "integer", "float", "string", "boolean", "datetime",
    #: "binary", "any", a numpy dtype for a tensor; arrays, objects and maps as MLflow's JSON has
    #: them: {"type": "array", "items": {"type": "double"}}.
    type: Any
    required: bool = True
    #: Of a tensor; -1 for any size. None: a column.
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Param:
    name: str
    type: str
    default: Any = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """A model's signature."""

    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...] = ()
    params: tuple[Param, ...] = ()
    #: A whole request body that the model takes; None where none is known.
    example: Any = None
    #: Which served entity's it is.
    entity: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The input columns' names, in order; () where they have none."""
        return tuple(column.name for column in self.inputs if column.name is not None)


# --- from an MLmodel file -----------------------------------------------------------------------


def from_mlmodel(
    signature: Mapping[str, Any], example: Any = None, *, entity: str | None = None
) -> Signature:
    """The signature of an MLmodel file: `inputs`, `outputs` and `params`, each a list or, as MLflow
    writes it, its JSON text. What cannot be read is left out.

    `example`: a request body that the model takes; without it one is made from the types.
    """
    inputs = tuple(map(_spec, _listed(signature.get("inputs"))))
    params = tuple(
        Param(str(item.get("name")), _param_type(item), item.get("default"), _shape(item))
        for item in _listed(signature.get("params"))
    )
    outputs = tuple(map(_spec, _listed(signature.get("outputs"))))
    return Signature(inputs, outputs, params, example or _example(inputs), entity)


def _listed(part: Any) -> list[Mapping[str, Any]]:
    if isinstance(part, (str, bytes)):
        try:
            part = json.loads(part)
        except ValueError:
            return []
    return [item for item in part if isinstance(item, Mapping)] if isinstance(part, list) else []


def _spec(item: Mapping[str, Any]) -> Column:
    name = item.get("name")
    name = None if name is None else str(name)
    if item.get("type") == "tensor":
        spec = item.get("tensor-spec")
        spec = spec if isinstance(spec, Mapping) else {}
        return Column(name, str(spec.get("dtype", "object")), True, _shape(spec) or (-1,))
    required = item.get("required", not item.get("optional", False))
    bare = {key: part for key, part in item.items() if key not in {"name", "required", "optional"}}
    return Column(name, _bare(bare), bool(required))


def _bare(item: Mapping[str, Any]) -> Any:
    """A type as Column has it: a word, or the JSON of a nested one."""
    if item.get("type") == "sparkml_vector":
        return {"type": "array", "items": {"type": "double"}}
    return dict(item) if item.get("type") in {"array", "object", "map"} else item.get("type", "any")


def _shape(item: Mapping[str, Any]) -> tuple[int, ...] | None:
    shape = item.get("shape")
    if not isinstance(shape, (list, tuple)):
        return None
    return tuple(size if isinstance(size, int) else -1 for size in shape)


def _param_type(item: Mapping[str, Any]) -> str:
    return str(item.get("type") or item.get("dtype") or "any")


# --- from an OpenAPI page -----------------------------------------------------------------------


def from_openapi(document: Any, entity: str | None = None) -> Signature | None:
    """The signature of the served entity `entity`, or of the first one, as its endpoint's page has
    it: Lakeport's or Databricks'. None when the page tells of no columns: a chat model, a model
    without a signature, no page at all.

    A page tells less than a signature: of a tensor the depth but not the sizes, which are -1 then,
    and the kind of its numbers; of an object not which of its fields may be left out. A tensor of
    several dimensions has an example only where the page shows one.
    """
    for name, operation in _operations(document):
        if entity is None or name == entity:
            return _of_operation(operation, name)
    return None


def _operations(document: Any) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for path, item in _dict(_dict(document).get("paths")).items():
        parts = str(path).strip("/").split("/")
        if len(parts) == 3 and (parts[0], parts[2]) == ("served-models", "invocations"):
            yield parts[1], _dict(_dict(item).get("post"))


def _of_operation(operation: Mapping[str, Any], entity: str) -> Signature | None:
    content = _content(operation.get("requestBody"))
    forms: dict[str, Mapping[str, Any]] = {}
    params: Mapping[str, Any] = {}
    for option in _options(_dict(content.get("schema"))):
        for key, schema in _dict(option.get("properties")).items():
            if key in _FORMS:
                forms[key] = _dict(schema)
                params = _dict(option["properties"].get("params")) or params
    inputs = _inputs(forms)
    if not inputs:
        return None
    certain = all(len(column.shape or ()) < 2 for column in inputs)
    return Signature(
        inputs,
        _outputs(operation),
        tuple(_param(name, _dict(schema)) for name, schema in _properties(params).items()),
        _shown(content) or (_example(inputs) if certain else None),
        entity,
    )


_FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")


def _inputs(forms: Mapping[str, Mapping[str, Any]]) -> tuple[Column, ...]:
    if record := _dict(forms.get("dataframe_records", {}).get("items")):
        required = record.get("required", ())
        return tuple(
            Column(name, _type(_dict(schema)), name in required)
            for name, schema in _properties(record).items()
        )
    if split := _properties(forms.get("dataframe_split", {})):
        columns = _dict(split.get("columns"))
        names = _dict(columns.get("items")).get("enum") or ()
        types = _dict(_dict(_dict(split.get("data")).get("items"))).get("prefixItems") or ()
        required = columns.get("required", names)
        return tuple(
            Column(str(name), _type(_dict(schema)), name in required)
            for name, schema in zip(names, types, strict=False)
        )
    given = forms.get("inputs", {})
    if "instances" in forms:
        named = _properties(given)
        tensors = named.items() if named else ((None, given),) if given else ()
        return tuple(_tensor(name, _dict(schema)) for name, schema in tensors)
    return (Column(None, _type(_dict(given.get("items")))),) if given else ()


def _tensor(name: str | None, schema: Mapping[str, Any]) -> Column:
    depth = 0
    while _json_type(schema) == "array":
        depth, schema = depth + 1, _dict(schema.get("items"))
    dtype = {"integer": "int64", "number": "float64", "boolean": "bool", "string": "str"}
    return Column(name, dtype.get(_json_type(schema), "object"), True, (-1,) * depth)


def _type(schema: Mapping[str, Any]) -> Any:
    """MLflow's type of a JSON schema."""
    form = schema.get("format")
    match _json_type(schema):
        case "boolean":
            return "boolean"
        case "integer":
            return "integer" if form == "int32" else "long"
        case "number":
            return "float" if form == "float" else "double"
        case "string":
            if form in {"byte", "binary", "base64"}:
                return "binary"
            return "datetime" if form in {"date-time", "date"} else "string"
        case "array":
            return {"type": "array", "items": _nested(schema.get("items"))}
        case "object" if "additionalProperties" in schema:
            return {"type": "map", "values": _nested(schema["additionalProperties"])}
        case "object" if _properties(schema):
            required = schema.get("required", ())
            fields = _properties(schema).items()
            return {
                "type": "object",
                "properties": {n: _nested(s) | {"required": n in required} for n, s in fields},
            }
    return "any"


def _nested(schema: Any) -> dict[str, Any]:
    type = _type(_dict(schema))
    return type if isinstance(type, dict) else {"type": type}


def _json_type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):  # nullable
        kind = next((each for each in kind if each != "null"), None)
    return str(kind)


def _param(name: str, schema: Mapping[str, Any]) -> Param:
    shape = None
    default = schema.get("default")
    if _json_type(schema) == "array":
        shape, schema = (-1,), _dict(schema.get("items"))
    type = _type(schema)
    if isinstance(default, str) and type in {"double", "float", "long", "integer"}:
        try:
            default = json.loads(default)
        except ValueError:
            default = None
    return Param(name, type if isinstance(type, str) else "object", default, shape)


def _outputs(operation: Mapping[str, Any]) -> tuple[Column, ...]:
    answer = _content(_dict(operation.get("responses")).get("200"))
    predictions = _dict(_properties(_dict(answer.get("schema"))).get("predictions"))
    one = _dict(predictions.get("items")) or predictions
    if _properties(one):
        return tuple(Column(n, _type(_dict(s))) for n, s in _properties(one).items())
    return (Column(None, _type(one)),) if _dict(predictions.get("items")) else ()


def _shown(content: Mapping[str, Any]) -> Any:
    """The page's own example of a body; Databricks may show the inside of its form only."""
    if isinstance(content.get("example"), Mapping):
        return content["example"]
    for option in _options(_dict(content.get("schema"))):
        shown = option.get("examples") or [option.get("example")]
        example = shown[0] if isinstance(shown, list) else None
        form = next((key for key in _FORMS if key in _dict(option.get("properties"))), None)
        if isinstance(example, Mapping) and form is not None:
            return example if form in example else {form: example}
    return None


def _content(part: Any) -> Mapping[str, Any]:
    return _dict(_dict(_dict(part).get("content")).get("application/json"))


def _options(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = schema.get("oneOf") or schema.get("anyOf") or [schema]
    return [option for option in found if isinstance(option, Mapping)]


def _properties(schema: Any) -> Mapping[str, Any]:
    return _dict(_dict(schema).get("properties"))


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


# --- an example ---------------------------------------------------------------------------------

_VALUES: Mapping[str, Any] = {
    "boolean": True,
    "integer": 1,
    "long": 1,
    "float": 1.0,
    "double": 1.0,
    "string": "text",
    "datetime": "2024-01-01T00:00:00",
    "binary": "AA==",
}


def _example(inputs: Sequence[Column]) -> Any:
    """A body that a model of these inputs takes."""
    if not inputs:
        return None
    if inputs[0].shape is not None:
        named = {c.name: _zeros(c.type, c.shape or ()) for c in inputs if c.name is not None}
        return {"inputs": named or _zeros(inputs[0].type, inputs[0].shape)}
    values = [_value(column.type) for column in inputs]
    names = [column.name for column in inputs]
    numbers = list(range(len(inputs)))
    if names == [None]:
        return {"inputs": values}
    # MLflow's names of a frame without names are numbers.
    labels = numbers if names[0] is None or names == list(map(str, numbers)) else names
    return {"dataframe_split": {"columns": labels, "data": [values]}}


def _value(type: Any) -> Any:
    if not isinstance(type, Mapping):
        return _VALUES.get(str(type), "text")
    items = _dict(type.get("items"))
    match type.get("type"):
        case "array" if items.get("type") in {"integer", "float", "datetime"}:
            return []  # inside an array MLflow takes no number of 32 bits from JSON, nor a time
        case "array":
            return [_value(items)]
        case "object":
            return {name: _value(field) for name, field in _properties(type).items()}
        case "map":
            return {"key": _value(_dict(type.get("values")))}
    return _VALUES.get(str(type.get("type")), "text")


def _zeros(dtype: Any, shape: Sequence[int]) -> Any:
    if not shape:
        return "text" if str(dtype).startswith(("str", "object", "bytes")) else 0
    return [_zeros(dtype, shape[1:])] * max(1, shape[0])
