"""What an operator may give by its path, and what is said of the rest."""

from pathlib import Path

import pytest

from lakeport.models.weights_path import BadWeights, engine_for


def made(folder: Path, name: str, content: bytes = b"x") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_a_gguf_file_runs_in_llama_cpp(tmp_path: Path) -> None:
    file = made(tmp_path, "any-name", b"GGUF\3\0\0\0")

    assert engine_for(file, gpu=False) == engine_for(file, gpu=True) == "llama.cpp"


def test_safetensors_run_in_vllm_on_a_gpu_only(tmp_path: Path) -> None:
    folder = made(tmp_path / "big", "model.safetensors").parent

    assert engine_for(folder, gpu=True) == "vllm"
    with pytest.raises(BadWeights, match=r"runs on a GPU only.*GGUF"):
        engine_for(folder, gpu=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("big/model.safetensors", "one file of a model in safetensors"),
        ("big/model.gguf", "does not begin with GGUF"),
        ("big/none.gguf", "there is no such file"),
        ("empty", "a folder without a model"),
        ("folder", "name the .gguf file in it"),
    ],
)
def test_the_rest_is_refused_with_a_word_on_what_would_do(
    tmp_path: Path, name: str, said: str
) -> None:
    made(tmp_path / "big", "model.safetensors")
    made(tmp_path / "big", "model.gguf", b"<html>")
    made(tmp_path / "folder", "model.gguf", b"GGUF")
    (tmp_path / "empty").mkdir()

    with pytest.raises(BadWeights, match=said) as told:
        engine_for(tmp_path / name, gpu=True)

    assert str(tmp_path) not in str(told.value)
