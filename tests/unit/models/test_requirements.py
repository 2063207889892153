"""When an environment serves a model, and what is installed when it does not."""

from pathlib import Path

import pytest

from lakeport.models.mlmodel import MLmodel
from lakeport.models.requirements import (
    Needs,
    as_installed,
    environment_key,
    further_index,
    read_requirements,
    unmet,
)

INSTALLED = {
    "mlflow": "3.17.2",
    "numpy": "2.4.6",
    "scikit-learn": "1.9.1",
    "torch": "2.13.0+cpu",
    "pre": "1.0rc1",
}
PYFUNC = MLmodel(flavors={"python_function": {"python_version": "3.10.4"}, "sklearn": {}})


@pytest.mark.parametrize(
    "line",
    [
        "mlflow==3.17.2",
        "mlflow==3.1.0",
        "mlflow>=2",
        "MLflow",
        "numpy==2.4.6",
        "numpy>=2,<3",
        "Scikit_Learn==1.9.1",
        "torch==2.13.0",
        "pre>=0.9",
        "pywin32==306; sys_platform == 'win32'",
        "numpy==2.4.6; python_version >= '3.9'",
    ],
)
def test_a_requirement_is_met(line: str) -> None:
    assert unmet([line], INSTALLED.get) == []


@pytest.mark.parametrize(
    "line",
    [
        "mlflow==3.18.0",
        "mlflow==2.9.2",
        "mlflow<3",
        "numpy==2.4.5",
        "numpy<2",
        "torch==2.13.0+cu130",
        "absent",
        "scikit-learn[alldeps]==1.9.1",
        "numpy @ https://example.com/numpy.whl",
        "git+https://example.com/x.git",
        "-r other.txt",
        "./dist/mine.whl",
        "numpy==2.4.6 --hash=sha256:00",
    ],
)
def test_a_requirement_is_not_met(line: str) -> None:
    assert unmet([line], INSTALLED.get) == [line]


def test_mlflow_skinny_is_mlflow_enough() -> None:
    assert unmet(["mlflow==3.1.0"], {"mlflow-skinny": "3.2.0"}.get) == []


@pytest.mark.parametrize(
    ("flavors", "lines", "installed"),
    [
        (
            {"python_function", "sklearn"},
            ["mlflow==3.1.0", "scikit-learn==1.5.0"],
            ["mlflow-skinny<4,>=3.1.0", "numpy", "orjson", "pandas", "scikit-learn==1.5.0"],
        ),
        (
            {"python_function", "langchain"},
            ["mlflow==3.1.0", "numpy==1.26.4", "pandas<3"],
            ["mlflow<4,>=3.1.0", "numpy==1.26.4", "orjson", "pandas<3"],
        ),
        (
            {"python_function"},
            ["mlflow[databricks]==3.1.0"],
            ["mlflow[databricks]<4,>=3.1.0", "numpy", "orjson", "pandas"],
        ),
        (
            {"python_function"},
            ["mlflow>=3,<3.5", "git+https://example.com/x.git"],
            [
                "git+https://example.com/x.git",
                "mlflow-skinny<3.5,>=3",
                "numpy",
                "orjson",
                "pandas",
            ],
        ),
        (
            {"python_function"},
            ["six"],
            ["mlflow-skinny<4,>=3.1.0", "numpy", "orjson", "pandas", "six"],
        ),
    ],
)
def test_what_is_installed(
    tmp_path: Path, flavors: set[str], lines: list[str], installed: list[str]
) -> None:
    needs = Needs("3.11", tuple(lines), frozenset(flavors), mlflow="3.1.0")

    assert as_installed(needs, tmp_path) == installed


def test_libraries_stay_below_what_an_old_mlflow_knows(tmp_path: Path) -> None:
    needs = Needs("3.10", ("mlflow==2.9.2",), frozenset({"python_function"}), mlflow="2.9.2")

    assert as_installed(needs, tmp_path) == [
        "mlflow-skinny<3,>=2.9.2",
        "numpy<3",
        "orjson",
        "pandas<3",
    ]


def test_constraints_beside_the_model_are_found(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("urllib3<2")
    needs = Needs(None, ("mlflow==3.1.0", "-c constraints.txt"), frozenset({"sklearn"}))

    assert f"-c {tmp_path}/constraints.txt" in as_installed(needs, tmp_path)


@pytest.mark.parametrize("option", ["-r", "--requirement", "-c", "--constraint"])
@pytest.mark.parametrize(
    "place", ["/etc/passwd", "../other/file", "a/../../b", "file:///etc/hosts"]
)
def test_no_file_outside_the_model_is_read(tmp_path: Path, option: str, place: str) -> None:
    needs = Needs(None, (f"{option} {place}",))

    with pytest.raises(ValueError, match="leads out of the model's folder"):
        as_installed(needs, tmp_path / "model")


def test_wheels_beside_the_model_are_found(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    lines = ("--find-links wheels", "-f https://example.com/x", "-f /opt/wheels", "-r https://x/y")

    installed = as_installed(Needs(None, lines), tmp_path)

    assert f"--find-links {tmp_path}/wheels" in installed
    assert set(lines[1:]) <= set(installed)


@pytest.mark.parametrize(
    ("line", "further"),
    [
        ("--extra-index-url https://example.com/simple", True),
        ("--extra-index-url=https://example.com/simple", True),
        ("--index-url https://example.com/simple", False),
        ("six", False),
    ],
)
def test_a_further_index_is_seen(line: str, further: bool) -> None:
    assert further_index(["numpy", line]) == further


def test_what_only_conda_installs_is_told(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").write_text(
        "dependencies:\n- python=3.9.18\n- conda-forge::pip\n- python-dateutil=2\n"
        "- conda-forge::gdal>=3\n- pip: [six]\n"
    )

    needs = read_requirements(tmp_path, PYFUNC)

    assert needs.conda == ("python-dateutil=2", "conda-forge::gdal>=3")


def test_mlflows_own_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "# made by hand\nmlflow==3.1.0\n\nnumpy==1.26 \\\n  ; python_version > '3'  # pinned\n"
    )
    (tmp_path / "python_env.yaml").write_text("python: 3.11.7\ndependencies: [-r requirements.txt]")

    needs = read_requirements(tmp_path, PYFUNC)

    assert needs.python == "3.11"
    assert [line.split() for line in needs.lines] == [
        ["mlflow==3.1.0"],
        ["numpy==1.26", ";", "python_version", ">", "'3'"],
    ]


def test_a_conda_file_alone_will_do(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").write_text(
        "dependencies:\n- python=3.9.18\n- pip<=23\n- pip:\n  - mlflow==2.9.2\n  - six\n"
    )

    needs = read_requirements(tmp_path, PYFUNC)

    assert needs.python == "3.9"
    assert needs.lines == ("mlflow==2.9.2", "six")


def test_a_model_that_says_nothing_needs_nothing(tmp_path: Path) -> None:
    needs = read_requirements(tmp_path, MLmodel(flavors={"python_function": {}}))

    assert needs.python is None
    assert needs.lines == ()


def test_the_models_own_word_is_the_last_for_its_python(tmp_path: Path) -> None:
    assert read_requirements(tmp_path, PYFUNC).python == "3.10"


def test_an_environment_is_shared_by_equal_needs(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"

    keys = {
        environment_key(["a", "b"], "3.11", "linux", one),
        environment_key(["b", "a"], "3.11", "linux", two),
    }

    assert len(keys) == 1
    assert environment_key(["a", "b"], "3.12", "linux", one) not in keys
    assert environment_key(["a", "b==1"], "3.11", "linux", one) not in keys


def test_a_file_of_the_model_counts_with_its_content(tmp_path: Path) -> None:
    lines = [f"-c {tmp_path}/constraints.txt", "six"]
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("six<2")
    before = environment_key(lines, "3.11", "linux", tmp_path)

    constraints.write_text("six<1")

    assert environment_key(lines, "3.11", "linux", tmp_path) != before
