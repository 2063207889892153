"""What a model needs: its Python and its packages, and whether an environment has them.

Pure but for `read_requirements`. MLflow writes `requirements.txt`, `python_env.yaml` and
`conda.yaml` beside the model; hand-made models may have only some of them.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from lakeport.models.mlmodel import MLmodel, load_yaml, read_bounded

#: What a worker itself needs of any environment.
FLOOR = ("numpy", "orjson", "pandas")
#: Flavors whose models load with `mlflow-skinny`: MLflow in full is 600 MB more.
SKINNY = frozenset(
    {"catboost", "lightgbm", "onnx", "python_function", "sklearn", "statsmodels", "xgboost"}
)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model asks for."""

    #: "3.11", or None: any.
    python: str | None
    #: Lines of `requirements.txt`, without comments, in the order of the file.
    lines: tuple[str, ...]
    flavors: frozenset[str] = frozenset()
    #: The MLflow that saved the model.
    mlflow: str | None = None
    #: What only conda could install.
    conda: tuple[str, ...] = ()


# --- reading ------------------------------------------------------------------------------------


def read_requirements(folder: Path, model: MLmodel) -> Needs:
    """What the model in `folder` asks for; a file that is missing or broken asks for nothing."""
    conda = _yaml(folder / "conda.yaml").get("dependencies")
    conda_lines = conda if isinstance(conda, list) else []
    lines = _lines(folder / "requirements.txt")
    if lines is None:
        lines = [line for item in conda_lines if isinstance(item, dict) for line in _pip(item)]
    python = (
        _yaml(folder / "python_env.yaml").get("python")
        or next((m[1] for item in conda_lines if (m := _CONDA_PYTHON.match(str(item)))), None)
        or model.flavors.get("python_function", {}).get("python_version")
    )
    return Needs(
        python=_minor(str(python)) if python else None,
        lines=tuple(lines),
        flavors=frozenset(model.flavors),
        mlflow=model.mlflow_version,
        conda=tuple(
            item
            for item in conda_lines
            if isinstance(item, str) and not _CONDA_OWN.fullmatch(item.strip())
        ),
    )


_CONDA_OWN = re.compile(r"(?:\S+::)?(?:python|pip)(?![\w-]).*")
_CONDA_PYTHON = re.compile(r"python\s*={1,2}\s*([\d.]+)")


def _lines(file: Path) -> list[str] | None:
    try:
        text = read_bounded(file)
    except (OSError, ValueError):
        return None
    joined = re.sub(r"\\\r?\n", " ", text)
    bare = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in bare if line]


def _yaml(file: Path) -> dict[object, object]:
    try:
        document = load_yaml(read_bounded(file))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _pip(item: dict[object, object]) -> Iterable[str]:
    listed = item.get("pip")
    return [str(line) for line in listed] if isinstance(listed, list) else []


def _minor(version: str) -> str | None:
    found = re.match(r"(\d+)\.(\d+)", version)
    return f"{found[1]}.{found[2]}" if found else None


# --- are they met? ------------------------------------------------------------------------------


def unmet(lines: Iterable[str], installed: Callable[[str], str | None]) -> list[str]:
    """The lines that an environment does not meet.

    `installed` gives the version there of a canonical package name, or None. Markers are those of
    this interpreter. `mlflow==X` is met by any release of the same major that is not older, and by
    `mlflow-skinny` too. What is no plain requirement (`-r`, a URL, a path, an extra) is not met.
    """
    return [line for line in lines if not _met(line, installed)]


def _met(line: str, installed: Callable[[str], str | None]) -> bool:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.url or requirement.extras:
        return False
    name = canonicalize_name(requirement.name)
    version = installed(name)
    if name == "mlflow":
        version = version or installed("mlflow-skinny")
    if version is None:
        return False
    specifier = requirement.specifier
    if name in {"mlflow", "mlflow-skinny"}:
        specifier = _same_major(specifier)
    return specifier.contains(version, prereleases=True)


def _same_major(specifier: SpecifierSet) -> SpecifierSet:
    """`==3.1.0` becomes `>=3.1.0,<4`; anything else stays as written."""
    pins = list(specifier)
    if len(pins) != 1 or pins[0].operator != "==":
        return specifier
    version = _version(pins[0].version)
    if version is None:  # ==3.*
        return specifier
    return SpecifierSet(f">={version.public},<{version.major + 1}")


# --- as installed -------------------------------------------------------------------------------


def as_installed(needs: Needs, folder: Path) -> list[str]:
    """The lines to give an installer for an environment that serves the model, sorted.

    `folder` is the model's: `-r`, `-c` and `-f` places of its own are given by their absolute path.
    Raises ValueError for an `-r` or `-c` that leads out of it.
    """
    mlflow = "mlflow-skinny" if needs.flavors <= SKINNY else "mlflow"
    lines = [_as_installed(line, mlflow, folder) for line in needs.lines]
    named = {name for line in lines if (name := _name(line))}
    if not named & {"mlflow", "mlflow-skinny"}:
        lines.append(_saved_with(needs, mlflow))
    # MLflow 2 caps these, mlflow-skinny 2 does not.
    cap = "<3" if (saved := _version(needs.mlflow)) is not None and saved.major < 3 else ""
    floor = (name + cap * (name in {"numpy", "pandas"}) for name in FLOOR if name not in named)
    return sorted([*lines, *floor])


_PLACE = re.compile(
    r"(-r|-c|-f|--requirement|--constraint|--find-links)(?:\s+|=|(?<=^-[rcf]))(\S+)$"
)


def _as_installed(line: str, mlflow: str, folder: Path) -> str:
    if option := _PLACE.match(line):
        scheme = re.match(r"([a-z][a-z0-9+.-]*):", option[2].lower())
        if scheme and scheme[1] in {"http", "https"}:
            return line
        place = folder / option[2]
        inside = Path(os.path.normpath(place)).is_relative_to(os.path.normpath(folder))
        if inside and not scheme:
            return f"{option[1]} {place}" if place.exists() else line
        if option[1] not in {"-f", "--find-links"}:
            # A complaint would quote the file.
            raise ValueError(f"'{line}' leads out of the model's folder")
        return line
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return line
    if canonicalize_name(requirement.name) not in {"mlflow", "mlflow-skinny"} or requirement.url:
        return line
    if canonicalize_name(requirement.name) == "mlflow" and not requirement.extras:
        requirement.name = mlflow
    requirement.specifier = _same_major(requirement.specifier)
    return str(requirement)


def _saved_with(needs: Needs, mlflow: str) -> str:
    saved = _version(needs.mlflow)
    return mlflow if saved is None else f"{mlflow}<{saved.major + 1},>={saved.public}"


def _version(text: str | None) -> Version | None:
    try:
        return Version(text or "")
    except InvalidVersion:
        return None


def _name(line: str) -> str | None:
    try:
        return canonicalize_name(Requirement(line).name)
    except InvalidRequirement:
        return None


def further_index(lines: Iterable[str]) -> bool:
    """Whether a line names a package index beside the machine's."""
    return any(re.match(r"--extra-index-url[\s=]", line) for line in lines)


def environment_key(lines: Iterable[str], python: str, platform: str, folder: Path) -> str:
    """Names the environment that `lines` make: 64 hex digits.

    Lines that lead to files of the model in `folder` count with what is in those files; a model
    that brings a whole package has an environment of its own.
    """
    digest = hashlib.sha256(f"1\n{python}\n{platform}\n".encode())
    for line in sorted(line.replace(f"{folder}/", "") for line in lines):
        digest.update(f"{line}\n".encode())
        for own in (folder / word for word in line.split()):
            if own.is_file() and own.is_relative_to(folder):
                digest.update(hashlib.sha256(own.read_bytes()).digest())
            elif own.is_dir() and own.is_relative_to(folder):
                digest.update(str(folder).encode())
    return digest.hexdigest()
