"""Python environments of models: Lakeport's own where it serves, otherwise one that uv builds."""

import asyncio
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from lakeport.models.mlmodel import MLmodel
from lakeport.models.requirements import (
    as_installed,
    environment_key,
    further_index,
    read_requirements,
    unmet,
)
from lakeport.processes.indexes import uv_arguments
from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.local.once import Once, Say
from lakeport.runtimes.local.uv import run_uv

#: Lies in an environment that was built to its end, for it can't be built elsewhere and moved; says
#: which Python it has.
COMPLETE = ".lakeport-complete"
#: Lies where Lakeport's own environment serves, since the Python asked for is not to be had.
NEAREST = ".lakeport-nearest"

OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_VENV = ("venv", "--no-project", "--allow-existing", "--python")
_COMPILED = {"UV_COMPILE_BYTECODE": "1"}


class Environments:
    """Finds or builds the interpreter for a model.

    `marks` is added to the environment of every uv process. `environ` is the server's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        manager: Literal["uv", "local"] = "uv",
        python_missing: Literal["nearest", "refuse"] = "nearest",
        marks: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._manager = manager
        self._python_missing = python_missing
        self._marks = dict(marks or {})
        self._environ = environ
        self._building: Once[Path] = Once()

    async def close(self) -> None:
        await self._building.close()

    async def interpreter(self, model: MLmodel, folder: Path, say: Say) -> Path:
        """A Python that has what the model in `folder` needs. Raises StartFailed."""
        if self._manager == "local":
            say("Lakeport's own environment is used for every model (env_manager is local).")
            return Path(sys.executable)
        try:
            plan = await asyncio.to_thread(_plan, model, folder)
        except ValueError as error:
            raise StartFailed(f"the model's requirements cannot be met: {error}") from error
        if plan.conda:
            say("WARNING: What only conda could install is left out: " + ", ".join(plan.conda))
        for reason in plan.reasons:
            say(reason)
        if not plan.reasons:
            say("Lakeport's own environment meets the model's requirements.")
            return Path(sys.executable)

        async def build(say: Say) -> Path:
            return await self._build(self._folder / plan.key, plan, folder, say)

        try:
            return await self._building.run(plan.key, build, say)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StartFailed(f"the model's environment could not be built: {reason}") from error

    async def _build(self, target: Path, plan: "_Plan", model_folder: Path, say: Say) -> Path:
        """The interpreter of `target`, which is built if it is not there."""
        made = await asyncio.to_thread(_made, target)
        nearest_will_do = self._python_missing == "nearest"
        if made == plan.python or (made is not None and nearest_will_do):
            say("The environment is there from an earlier build.")
            return target / "bin/python"
        if plan.packages_met and nearest_will_do and await asyncio.to_thread(_given_up, target):
            say(f"WARNING: Python {plan.python} was not to be had before. Using Lakeport's own.")
            return Path(sys.executable)
        await asyncio.to_thread(_make_empty, target)
        try:
            return await self._build_in(target, plan, model_folder, say)
        except BaseException:  # a cancellation too: a part of an environment is of no use
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
            raise

    async def _build_in(self, target: Path, plan: "_Plan", model_folder: Path, say: Say) -> Path:
        """Build in the empty folder `target`."""
        made = OWN_PYTHON
        if plan.python != OWN_PYTHON and await self._has_other_python(target, plan.python, say):
            made = plan.python
        elif plan.python != OWN_PYTHON and plan.packages_met:
            # The other Python was all that Lakeport's own environment lacked. Looking for it again
            # at every start would take its time each time.
            await asyncio.to_thread((target / NEAREST).touch)
            return Path(sys.executable)
        else:
            await self._uv(*_VENV, sys.executable, str(target), cwd=target, say=say)
        python, wanted = target / "bin/python", target / "requirements.txt"
        await asyncio.to_thread(wanted.write_text, "\n".join([*plan.lines, ""]), encoding="utf-8")
        say("Installing: " + ", ".join(plan.lines))
        install = ("pip", "install", "--python", str(python), "--requirement", str(wanted))
        indexes = uv_arguments(environ=self._environ)
        # As pip does: every index counts the same, and the best release is taken.
        more = {"UV_INDEX_STRATEGY": "unsafe-best-match"} if further_index(plan.lines) else {}
        await self._uv(*install, *indexes, cwd=model_folder, say=say, defaults=more)
        await asyncio.to_thread((target / COMPLETE).write_text, made, encoding="ascii")
        say("The environment is complete.")
        return python

    async def _has_other_python(self, target: Path, python: str, say: Say) -> bool:
        """Make `target` an environment of that Python, where it is to be had."""
        try:
            await self._uv(*_VENV, python, str(target), cwd=target, say=say)
        except StartFailed as error:
            missing = (
                f"Python {python}, which the model asks for, is not on this machine and could not "
                "be fetched"
            )
            if self._python_missing == "refuse":
                raise StartFailed(missing) from error
            say(f"WARNING: {missing}. Going on with Python {OWN_PYTHON}.")
            return False
        return True

    async def _uv(
        self, *arguments: str, cwd: Path, say: Say, defaults: Mapping[str, str] | None = None
    ) -> None:
        """Run uv; a failure is a StartFailed with the last that it said.

        `defaults` are variables for it that the machine's own settings win over.
        """
        complaint = await run_uv(
            arguments,
            extra=_COMPILED | self._marks,
            environ=self._environ,
            cwd=cwd,
            say=say,
            defaults=defaults,
        )
        if complaint is not None:
            raise StartFailed(f"the model's environment could not be built:\n{complaint}")


def installed_version(name: str) -> str | None:
    """The version of a distribution in Lakeport's own environment."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class _Plan:
    #: Why Lakeport's own environment does not serve; none: it does.
    reasons: list[str]
    #: Whether it would, but for its Python.
    packages_met: bool
    python: str
    lines: list[str]
    key: str
    #: What only conda could install.
    conda: tuple[str, ...]


def _plan(model: MLmodel, folder: Path) -> _Plan:
    needs = read_requirements(folder, model)
    python = needs.python or OWN_PYTHON
    reasons = []
    if python != OWN_PYTHON:
        reasons.append(f"The model asks for Python {python}; Lakeport runs on {OWN_PYTHON}.")
    missing = unmet(needs.lines, installed_version)
    if missing:
        reasons.append("Lakeport's own environment does not meet: " + ", ".join(missing))
    lines = as_installed(needs, folder)
    return _Plan(
        reasons=reasons,
        packages_met=not missing,
        python=python,
        lines=lines,
        key=environment_key(lines, python, sysconfig.get_platform(), folder),
        conda=needs.conda,
    )


def _made(environment: Path) -> str | None:
    """The Python of an environment that was built to its end, e.g. "3.11"."""
    # The interpreter is a link: its target may have been removed since.
    if not (environment / "bin/python").exists():
        return None
    try:
        return (environment / COMPLETE).read_text(encoding="ascii")
    except OSError:
        return None


def _given_up(environment: Path) -> bool:
    return (environment / NEAREST).is_file()


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
