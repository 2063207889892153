"""What of the server's environment a child may see."""

import os
from collections.abc import Mapping

#: Whole names. HOME is not among them: the operator's home holds credentials (`~/.netrc`, `~/.aws`,
#: `~/.databrickscfg`), so a child gets a HOME from who starts it, or none.
NAMES = frozenset(
    {
        "PATH",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TZDIR",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "DYLD_FALLBACK_LIBRARY_PATH",
        "SYSTEMROOT",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_HOME",
        "CUDA_PATH",
        "CUDA_DEVICE_ORDER",
        "DO_NOT_TRACK",
    }
)
#: Whole families of names: locale, threads and allocators, accelerators.
PREFIXES = (
    "LC_",
    "OMP_",
    "KMP_",
    "GOMP_",
    "MKL_",
    "OPENBLAS_",
    "GOTO_",
    "BLIS_",
    "NUMEXPR_",
    "VECLIB_",
    "NVPL_",
    "MALLOC_",
    "NVIDIA_",
    "HIP_",
    "ROCR_",
    "HSA_",
)
#: Either case; a proxy's URL may hold a password, but without it the child has no network.
PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})


def scrubbed(
    extra: Mapping[str, str] | None = None, *, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment for a child: of the server's own only what is listed above, and `extra`.

    No token, password or credential of the server, of Databricks or of a cloud is on the list.
    `environ` is the server's environment (`os.environ`).
    """
    own = os.environ if environ is None else environ
    passed = {name: value for name, value in own.items() if _may_pass(name)}
    return passed | dict(extra or {})


def _may_pass(name: str) -> bool:
    return name in NAMES or name.startswith(PREFIXES) or name.lower() in PROXIES
