"""What a grammar cannot hold an answer to: llama.cpp leaves these parts of a JSON schema out in
silence, so `"strict": true` must not be promised with them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

#: Whatever they say.
_NEVER = frozenset(
    {
        "not", "if", "then", "else", "multipleOf", "uniqueItems", "contains", "minContains",
        "maxContains", "minProperties", "maxProperties", "patternProperties", "propertyNames",
        "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties",
        "unevaluatedItems",
    }
)  # fmt: skip
#: Held for integers only.
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
#: What a pattern may be: anchored at both ends, without classes as \d, and without (?...).
_PATTERN = re.compile(r"\^(?:[^\\(]|\\[^a-zA-Z0-9]|\((?!\?))*\$", re.DOTALL)

_ONE = ("additionalProperties", "items")
_SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_NAMED = ("properties", "$defs", "definitions")


def beyond_grammar(schema: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first keyword that is left out, and why, for people; None: all of `schema` is held to."""
    for part in _parts(schema):
        for name in part:
            if name in _NEVER and part[name] not in (False, 0, None):
                return name, "this model's grammar has no such rule"
        if part.get("type") != "integer":
            for name in _BOUNDS:
                if name in part:
                    return name, 'this model\'s grammar bounds "type": "integer" only'
        pattern = part.get("pattern")
        if isinstance(pattern, str) and not _PATTERN.fullmatch(pattern):
            return "pattern", "this model's grammar takes ^...$, without \\d and the like or (?...)"
    return None


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """`schema` and every schema in it. Not by recursion: a caller says how deep it is."""
    left: list[Any] = [schema]
    while left:
        part = left.pop()
        if not isinstance(part, dict):
            continue
        yield part
        left += [part.get(name) for name in _ONE]
        for name in _SEVERAL:
            if isinstance(several := part.get(name), list):
                left += several
        for name in _NAMED:
            if isinstance(named := part.get(name), dict):
                left += named.values()
