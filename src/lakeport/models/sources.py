"""Where a model comes from: what people write, as values.

`models:/NAME/VERSION` and `models:/NAME@ALIAS` name a version in the registry; a path (or a `file:`
URI) names a folder with an MLmodel file on this machine. A path is taken from the operator's
command line only, never from the wire.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: MLflow's own rule for names is "no / : . % quotes"; Unity Catalog adds dots between three parts.
_VERSION = re.compile(r"[1-9][0-9]{0,18}")
_ALIAS = re.compile(r"[\w-]{1,255}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A version in the model registry."""

    name: str
    #: A number ("3") or an alias ("@champion"), as `ModelRegistry.resolve` takes it.
    version: str


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder on this machine with an MLmodel file; absolute, not looked at yet."""

    path: Path


ModelSource = RegisteredModel | ModelFolder


def parse_source(uri: str) -> ModelSource:
    """The source that `uri` names. Raises ValueError, saying what was expected."""
    if uri.startswith("models:"):
        return parse_registered_model(uri)
    if uri.startswith("file:"):
        parts = urlsplit(uri)
        if parts.netloc not in {"", "localhost"}:
            raise ValueError(f"{uri!r} names another machine; expected file:///path/to/model")
        return ModelFolder(_folder(uri, unquote(parts.path)))
    if _SCHEME.match(uri):
        raise ValueError(
            f"{uri!r} is not a model that can be served; register it and use "
            "models:/NAME/VERSION or models:/NAME@ALIAS, or give a folder with an MLmodel file"
        )
    return ModelFolder(_folder(uri, uri))


def parse_registered_model(uri: str) -> RegisteredModel:
    """The registered version that a `models:` URI names. Raises ValueError."""
    path = uri.removeprefix("models:").lstrip("/")
    name, _, version = path.rpartition("/")
    if not version.isdigit():  # a name may hold an @ itself
        name, separator, alias = path.rpartition("@")
        version = separator + alias
    if not name or "/" in name or not is_version(version):
        raise ValueError(
            f"{uri!r} names no model version; expected models:/NAME/VERSION with a number, "
            "or models:/NAME@ALIAS"
        )
    return RegisteredModel(name, version)


def is_version(version: str) -> bool:
    """Whether it is a version's number ("3") or an alias ("@champion")."""
    if version.startswith("@"):
        return _ALIAS.fullmatch(version[1:]) is not None
    return _VERSION.fullmatch(version) is not None


def _folder(uri: str, path: str) -> Path:
    if not path or "\0" in path:
        raise ValueError(f"{uri!r} names no folder")
    return Path(path).expanduser().absolute()
