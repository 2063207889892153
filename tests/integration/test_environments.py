"""Environments of models: when Lakeport's own serves, and how uv builds another.

The packages are empty wheels that the tests make, so no index is asked; one slow test builds a real
environment from the machine's own index.
"""

import asyncio
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Literal

import pytest

from lakeport.models.mlmodel import read_mlmodel
from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.local.environments import COMPLETE, OWN_PYTHON, Environments

MLFLOW = metadata.version("mlflow")
#: Older than any Python that Lakeport runs on, and on no machine.
NOWHERE = "3.1"


def wheel(folder: Path, name: str, version: str) -> None:
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(exist_ok=True, parents=True)
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}.py", f"version = {version!r}\n")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def index(folder: Path, packages: dict[str, str]) -> None:
    """A package index (PEP 503) in `folder`."""
    for name, version in packages.items():
        wheel(folder / name, name, version)
        file = next((folder / name).glob("*.whl")).name
        (folder / name / "index.html").write_text(f'<a href="{file}">{file}</a>')


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A machine whose pip finds packages in a folder and nowhere else."""
    for name in ("mlflow-skinny", "numpy", "orjson", "pandas"):
        wheel(tmp_path / "wheels", name, {"mlflow-skinny": MLFLOW}.get(name, "1.0"))
    wheel(tmp_path / "wheels", "tiny-lib", "1.5")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "operator"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "UV_PYTHON_DOWNLOADS": "never",
    }


class Model:
    def __init__(self, folder: Path, *requirements: str, python: str = OWN_PYTHON) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "MLmodel").write_text("flavors: {python_function: {}, sklearn: {}}\n")
        (folder / "requirements.txt").write_text("\n".join(requirements))
        (folder / "python_env.yaml").write_text(f"python: {python}.4\n")


class Builder:
    def __init__(
        self,
        home: Path,
        environ: dict[str, str],
        *,
        manager: Literal["uv", "local"] = "uv",
        python_missing: Literal["nearest", "refuse"] = "nearest",
    ) -> None:
        self.said: list[str] = []
        self.home = home
        self.environments = Environments(
            home, manager=manager, python_missing=python_missing, environ=environ
        )

    async def __call__(self, model: Model) -> Path:
        described = read_mlmodel(model.folder)
        return await self.environments.interpreter(described, model.folder, self.said.append)

    @property
    def log(self) -> str:
        return "\n".join(self.said)


def output(python: Path, code: str) -> str:
    return subprocess.check_output([python, "-I", "-c", code], text=True).strip()


async def test_lakeports_own_serves_where_it_can(tmp_path: Path, environ: dict[str, str]) -> None:
    build = Builder(tmp_path / "envs", environ)
    numpy = metadata.version("numpy")

    python = await build(Model(tmp_path / "m", f"mlflow=={MLFLOW}", f"numpy=={numpy}"))

    assert python == Path(sys.executable)
    assert not build.home.exists()


async def test_local_never_builds(tmp_path: Path, environ: dict[str, str]) -> None:
    build = Builder(tmp_path / "envs", environ, manager="local")

    assert await build(Model(tmp_path / "m", "absent==1", python="3.1")) == Path(sys.executable)


async def test_what_is_missing_is_built_once(tmp_path: Path, environ: dict[str, str]) -> None:
    build = Builder(tmp_path / "envs", environ)
    one = Model(tmp_path / "one", f"mlflow=={MLFLOW}", "tiny-lib>=1")
    two = Model(tmp_path / "two", "tiny-lib>=1", f"mlflow=={MLFLOW}")

    first, second = await asyncio.gather(build(one), build(two))
    installs = build.log.count("Installed 5 packages")
    third = await Builder(tmp_path / "envs", environ)(one)

    assert first == second == third != Path(sys.executable)
    assert installs == 2  # both hear of the one build
    assert len(list(build.home.iterdir())) == 1
    code = "import tiny_lib, mlflow_skinny; print(tiny_lib.version, mlflow_skinny.version)"
    assert output(first, code) == f"1.5 {MLFLOW}"


async def test_a_build_that_fails_shows_the_resolvers_reason(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    build = Builder(tmp_path / "envs", environ)

    with pytest.raises(StartFailed) as failure:
        await build(Model(tmp_path / "m", "tiny-lib==2.0"))

    message = str(failure.value)
    assert message.startswith("the model's environment could not be built:\n")
    assert "tiny-lib==2.0" in message
    assert "No solution found" in message
    assert str(tmp_path) not in message
    assert len(message) < 1600
    assert "No solution found" in build.log
    assert list(build.home.iterdir()) == []


async def test_wheels_in_a_models_folder_are_installed(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    model = Model(
        tmp_path / "m", "--find-links wheels", "own-lib", "wheels/other_lib-3.0-py3-none-any.whl"
    )
    wheel(model.folder / "wheels", "own-lib", "2.0")
    wheel(model.folder / "wheels", "other-lib", "3.0")

    python = await Builder(tmp_path / "envs", environ)(model)

    code = "import own_lib, other_lib; print(own_lib.version, other_lib.version)"
    assert output(python, code) == "2.0 3.0"


async def test_a_further_index_counts_as_much_as_the_machines(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """As pip has it. uv would look no further than the first index that knows the name."""
    for place, version in (("machine", "1.5"), ("further", "1.0")):
        index(tmp_path / place, {"tiny-lib": version})
    everything = {"mlflow-skinny": MLFLOW, "numpy": "1.0", "orjson": "1.0", "pandas": "1.0"}
    index(tmp_path / "machine", everything)
    del environ["PIP_NO_INDEX"], environ["PIP_FIND_LINKS"]
    environ["PIP_INDEX_URL"] = (tmp_path / "machine").as_uri()
    further = (tmp_path / "further").as_uri()
    model = Model(tmp_path / "m", f"--extra-index-url {further}", "tiny-lib>=1.2")

    python = await Builder(tmp_path / "envs", environ)(model)

    assert output(python, "import tiny_lib; print(tiny_lib.version)") == "1.5"


async def test_a_requirement_that_leads_out_of_the_model_is_refused(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    build = Builder(tmp_path / "envs", environ)

    with pytest.raises(StartFailed, match=r"'-r \.\./secret' leads out of the model's folder"):
        await build(Model(tmp_path / "m", "-r ../secret"))

    assert "hunter2" not in build.log


async def test_what_only_conda_could_install_is_told(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    build = Builder(tmp_path / "envs", environ)
    model = Model(tmp_path / "m", f"mlflow=={MLFLOW}")
    (model.folder / "conda.yaml").write_text("dependencies:\n- python=3.11.1\n- gdal=3\n")

    assert await build(model) == Path(sys.executable)

    assert "WARNING: What only conda could install is left out: gdal=3" in build.log


async def test_a_build_that_was_cut_short_is_done_anew(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    model = Model(tmp_path / "m", "tiny-lib")
    python = await Builder(tmp_path / "envs", environ)(model)
    (python.parents[1] / COMPLETE).unlink()

    again = Builder(tmp_path / "envs", environ)
    assert await again(model) == python

    assert "The environment is complete." in again.log


async def test_a_cancelled_build_leaves_nothing(tmp_path: Path, environ: dict[str, str]) -> None:
    build = Builder(tmp_path / "envs", environ)
    begun = asyncio.Event()
    model = Model(tmp_path / "m", "tiny-lib")

    def say(line: str) -> None:
        build.said.append(line)
        if line.startswith("Installing"):
            begun.set()

    building = asyncio.ensure_future(
        build.environments.interpreter(read_mlmodel(model.folder), model.folder, say)
    )
    await begun.wait()
    building.cancel()
    await asyncio.wait([building])

    assert building.cancelled()
    assert list(build.home.iterdir()) == []


async def test_a_python_that_is_not_there_is_replaced_with_a_warning(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    build = Builder(tmp_path / "envs", environ)

    python = await build(Model(tmp_path / "m", "tiny-lib", python=NOWHERE))

    assert f"WARNING: Python {NOWHERE}" in build.log
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    assert output(python, version) == OWN_PYTHON


async def test_without_that_python_lakeports_own_may_do(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    model = Model(tmp_path / "m", f"mlflow=={MLFLOW}", python=NOWHERE)

    assert await Builder(tmp_path / "envs", environ)(model) == Path(sys.executable)

    again = Builder(tmp_path / "envs", environ)
    assert await again(model) == Path(sys.executable)
    assert "not to be had before" in again.log


async def test_a_python_that_is_not_there_can_be_a_refusal(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    model = Model(tmp_path / "m", "tiny-lib", python=NOWHERE)
    await Builder(tmp_path / "envs", environ)(model)

    with pytest.raises(StartFailed, match=f"Python {NOWHERE}, which the model asks for, is not on"):
        await Builder(tmp_path / "envs", environ, python_missing="refuse")(model)


async def test_no_password_of_an_index_gets_into_a_message(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    closed = {"UV_DEFAULT_INDEX": "http://user:hunter2@127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    del environ["PIP_NO_INDEX"]
    build = Builder(tmp_path / "envs", environ | closed)

    with pytest.raises(StartFailed) as failure:
        await build(Model(tmp_path / "m", "not-there-at-all"))

    assert "hunter2" not in str(failure.value)
    assert "hunter2" not in build.log


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_real_model_loads_in_an_environment_of_its_own(tmp_path: Path) -> None:
    import mlflow.sklearn
    import sklearn
    from sklearn.linear_model import LinearRegression

    folder = tmp_path / "m"
    regressor = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/beside.py").write_text("answer = 42\n")
    mlflow.sklearn.save_model(
        regressor,
        folder,
        code_paths=[str(tmp_path / "beside/beside.py")],
        pip_requirements=["mlflow", f"scikit-learn=={sklearn.__version__}", "skops", "six==1.16.0"],
    )
    said: list[str] = []
    environments = Environments(tmp_path / "envs")

    python = await environments.interpreter(read_mlmodel(folder), folder, said.append)

    code = (
        f"import mlflow.pyfunc; model = mlflow.pyfunc.load_model({str(folder)!r})\n"
        "import pandas, orjson, six, beside\n"
        "print(beside.answer, round(float(model.predict(pandas.DataFrame([[2.0]]))[0]), 6))"
    )
    assert output(python, code).splitlines()[-1] == "42 4.0"
