from pathlib import Path

import pytest

from lakeport.models.sources import ModelFolder, RegisteredModel, is_version, parse_source


@pytest.mark.parametrize(
    ("uri", "name", "version"),
    [
        ("models:/iris/1", "iris", "1"),
        ("models:/iris@champion", "iris", "@champion"),
        ("models:/main.default.iris/12", "main.default.iris", "12"),
        ("models:/main.default.iris@the-best_1", "main.default.iris", "@the-best_1"),
        ("models:/with space/3", "with space", "3"),
        ("models:/a@b/3", "a@b", "3"),
        ("models:/a@b@c", "a@b", "@c"),
    ],
)
def test_a_registered_version_is_named_by_number_or_alias(
    uri: str, name: str, version: str
) -> None:
    assert parse_source(uri) == RegisteredModel(name, version)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/models/iris", "/models/iris"),
        ("file:///models/with%20space", "/models/with space"),
        ("file:/models/iris", "/models/iris"),
        ("./iris", str(Path("iris").absolute())),
        ("iris", str(Path("iris").absolute())),
    ],
)
def test_a_path_is_a_folder_on_this_machine(uri: str, path: str) -> None:
    assert parse_source(uri) == ModelFolder(Path(path))


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "models:/",
        "models:/iris",
        "models:/iris/",
        "models:/iris/latest",
        "models:/iris/Production",
        "models:/iris/0",
        "models:/iris/-1",
        "models:/iris/1/extra/2",
        "models:/iris@",
        "models:/iris@a/b",
        "models:/@champion",
        "models:/m-0123456789abcdef",
        "runs:/abc/model",
        "s3://bucket/model",
        "file://elsewhere/models/iris",
        "file:",
        "/models/\0iris",
    ],
)
def test_what_names_no_model_is_refused(uri: str) -> None:
    with pytest.raises(ValueError):
        parse_source(uri)


@pytest.mark.parametrize("version", ["1", "42", "@champion", "@a-b_c"])
def test_versions_and_aliases_are_told_from_anything_else(version: str) -> None:
    assert is_version(version)
    assert not is_version(version + "/..")
    assert not is_version(version + "\n")
    assert not is_version("")
