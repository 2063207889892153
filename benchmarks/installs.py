"""Programs that are compared with Lakeport: each lives in an environment of its own in a cache."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

DEFAULT_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lakeport-bench"

_BIN = Path(sys.executable).parent


class NotInstalled(Exception):
    """It does not install here; the message has the end of what the installer said."""


def install(cache: Path, name: str, *requirements: str) -> Path:
    """The folder of the programs of an environment with `requirements`, made if need be.

    `name`: its folder's in the cache, another one for other requirements. Raises NotInstalled.
    """
    folder = cache / name
    done = folder / ".complete"
    if not done.exists():
        print(f"installing {' '.join(requirements)} into {folder}", file=sys.stderr)
        uv = shutil.which("uv", path=f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}") or "uv"
        cache.mkdir(parents=True, exist_ok=True)
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        fill = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder)]
        _run([*fill, *requirements])
        done.touch()
    return folder / "bin"


def folder_name(name: str, requirements: tuple[str, ...]) -> str:
    """Another set of requirements gets another folder: `kserve-0a1b2c3d`."""
    return f"{name}-{hashlib.sha256(' '.join(requirements).encode()).hexdigest()[:8]}"


def first_on_path(bin: Path) -> dict[str, str]:
    """The environment of a program that starts others of its own folder, by name."""
    return {"PATH": f"{bin}{os.pathsep}{os.environ.get('PATH', '')}"}


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1200)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from None
    if done.returncode:
        raise NotInstalled(done.stderr.strip()[-500:])
