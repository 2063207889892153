"""What `pip install lakeport` users get: the wheel works by itself, in an empty environment.

uv installs from its cache by hard links, so that this takes seconds where the packages of the
lock are cached. Each install holds to the versions of `requirements/dev.txt`.
"""

import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from lakeport.cli.main import COMMANDS, SERVER
from tests.e2e.serving import ask, clean, served
from tests.models.build import build

ROOT = Path(__file__).parents[2]
COLUMNS = [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    # hatchling is in this environment already: nothing is fetched to build.
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT)
    (made,) = out.glob("*.whl")
    return made


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env=clean()
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def install(wheel: Path, folder: Path, extras: str, *others: str) -> Path:
    """An environment in `folder` with the wheel in it; returns its `bin`."""
    uv = find_uv_bin()
    constraints = folder.with_suffix(".txt")
    constraints.write_text("\n".join(pins()), encoding="utf-8")
    run(uv, "venv", "--quiet", "--python", sys.executable, folder)
    run(
        uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python",
        "--constraints", constraints, f"lakeport{extras} @ {wheel.as_uri()}", *others,
    )  # fmt: skip
    return folder / "bin"


def pins() -> list[str]:
    lock = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    return re.findall(r"^([\w.-]+==[^\\\n]+)", lock, re.MULTILINE)


def test_the_wheel_carries_types_and_migrations_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert "lakeport/py.typed" in names
    assert any(re.fullmatch(r"lakeport/stores/migrations/versions/\w+\.py", name) for name in names)
    assert "lakeport/worker/__main__.py" in names
    assert all(name.startswith(("lakeport/", "lakeport-")) for name in names)
    assert not [name for name in names if "__pycache__" in name]


def test_a_light_install_imports_and_says_what_it_can_do(wheel: Path, tmp_path: Path) -> None:
    tools = install(wheel, tmp_path / "light", "")

    version = run(tools / "python", "-c", "import lakeport; print(lakeport.__version__)")
    said = run(tools / "lakeport", "--help")
    for command in COMMANDS.keys() - SERVER:
        run(tools / "lakeport", command, "--help")

    assert version.strip() in wheel.name
    assert "serve" in said


def test_a_served_model_answers_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    model = build("iris", tmp_path / "model")
    tools = install(wheel, tmp_path / "server", "[server]", "scikit-learn", "skops")

    with served(tools, tmp_path / "home", "--model", f"iris={model}") as address:
        while ask(f"{address}/api/2.0/serving-endpoints/iris")["state"]["ready"] != "READY":
            time.sleep(0.2)  # the test's own timeout ends the wait
        answer = ask(
            f"{address}/serving-endpoints/iris/invocations",
            {"dataframe_split": {"columns": COLUMNS, "data": [[5.1, 3.5, 1.4, 0.2]]}},
        )

    assert len(answer["predictions"]) == 1
