"""Models that an operator gives by their path: a GGUF file, or a folder for vLLM."""

from pathlib import Path

from lakeport.models.catalogue import LLAMA, VLLM

#: Tokens of prompt and answer of such a model; llama.cpp takes less where the model was trained on
#: less.
CONTEXT = 4096
_MAGIC = b"GGUF"
_GGUF = (
    "llama.cpp runs GGUF files: look for one of this model, or make it with llama.cpp's "
    "convert_hf_to_gguf.py"
)


class BadWeights(Exception):
    """What lies at a path cannot be served; the message says why and what could, for people."""


def engine_for(path: Path, *, gpu: bool) -> str:
    """The engine that serves what lies at `path`: "llama.cpp" or "vllm".

    `gpu`: whether the workload type is one of GPU_*. Reads a folder's names, or four bytes of a
    file. Raises BadWeights.
    """
    shown = path.name
    try:
        if path.is_dir():
            return _for_folder(path, gpu=gpu)
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise BadWeights(f"{shown}: there is no such file") from None
    except OSError as error:
        raise BadWeights(f"{shown} cannot be read: {error.strerror or error}") from error
    if magic == _MAGIC:
        return LLAMA
    if path.suffix == ".safetensors":
        raise BadWeights(f"{shown} is one file of a model in safetensors. {_GGUF}")
    raise BadWeights(f"{shown} is not a GGUF file: it does not begin with GGUF. {_GGUF}")


def _for_folder(path: Path, *, gpu: bool) -> str:
    names = [entry.name for entry in path.iterdir()]
    if any(name.endswith(".safetensors") for name in names):
        if gpu:
            return VLLM
        raise BadWeights(
            f"{path.name} is a model in safetensors, which runs on a GPU only (workload_type "
            f"GPU_*, by vLLM). {_GGUF}"
        )
    if any(name.endswith(".gguf") for name in names):
        raise BadWeights(f"{path.name} is a folder: name the .gguf file in it")
    raise BadWeights(f"{path.name} is a folder without a model in it. {_GGUF}")
