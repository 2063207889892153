"""Files in an object store (`s3:` and the like), fetched by MLflow's own client in a child."""

import asyncio
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from lakeport.models.base import RegistryUnavailable
from lakeport.processes.child import how_it_ended, start_guarded
from lakeport.processes.environment import scrubbed

#: Stores whose address is a bucket's name. The other schemes of MLflow name a host, to which the
#: operator's credentials would go; MLflow's servers refuse those as well.
SCHEMES = frozenset({"s3", "gs", "wasbs"})
#: MLflow's own word for the further schemes that its operator allows, with commas.
ALLOWED = "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES"
#: Never, whatever is allowed: they are this machine's own files, or lead back to the registry.
REFUSED = frozenset({"", "file", "mlflow-artifacts", "models", "runs"})
#: Variables by which the stores' clients find their credentials.
CREDENTIALS = ("AWS_", "BOTO_", "GOOGLE_", "CLOUDSDK_", "AZURE_", "MLFLOW_S3_", "MLFLOW_GCS_")

PROGRAM = """\
import sys
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
get_artifact_repository(sys.argv[1]).download_artifacts("", dst_path=sys.argv[2])
"""


def scheme_of(uri: str) -> str:
    """The scheme of `uri` in lower case; "" for a path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", uri)
    return found[1].lower() if found else ""


def is_allowed(uri: str, environ: Mapping[str, str]) -> bool:
    """Whether a model's files may be fetched from `uri`, which a registry names."""
    further = {word.strip().lower() for word in environ.get(ALLOWED, "").split(",")}
    return scheme_of(uri) in (SCHEMES | further) - REFUSED


async def download(uri: str, into: Path, log: Callable[[str], None]) -> None:
    """Copy all that lies below `uri` to the folder `into`, which is made.

    What the program prints goes to `log`. Raises RegistryUnavailable.
    """
    await asyncio.to_thread(into.mkdir, parents=True)
    child = await start_guarded(
        [sys.executable, "-P", "-c", PROGRAM, uri, str(into)],
        env=_environment(os.environ),
        cwd=into,
        output=lambda output: log(output.decode(errors="replace").rstrip("\n")),
    )
    try:
        code = await child.exited
    finally:
        await child.stop(grace=0)
    if code != 0:
        raise RegistryUnavailable(
            f"The model's files could not be fetched from {uri} ({how_it_ended(code)}); "
            "the build log says more."
        )


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The operator's credentials for object stores, and nothing else that is secret."""
    passed = {
        name: value
        for name, value in environ.items()
        if name.startswith(CREDENTIALS) or name == "HOME"
    }
    return scrubbed({"MLFLOW_DISABLE_TELEMETRY": "true", **passed}, environ=environ)
