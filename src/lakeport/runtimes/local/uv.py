"""Runs `uv`, the program that fetches packages and builds environments."""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import uv

from lakeport.processes.child import how_it_ended, start_guarded
from lakeport.processes.indexes import uv_environment
from lakeport.runtimes.local.once import Say
from lakeport.runtimes.local.wording import for_people, plain

#: Lines of its output that a failure shows.
SHOWN_LINES = 25

#: Begins a complaint of the resolver.
_CROSS = "\N{MULTIPLICATION SIGN}"
_OPTIONS = ("--no-progress", "--color", "never")


async def run_uv(
    arguments: Sequence[str],
    *,
    extra: Mapping[str, str],
    environ: Mapping[str, str] | None,
    cwd: Path,
    say: Say,
    defaults: Mapping[str, str] | None = None,
) -> str | None:
    """None once it has done its work; otherwise the last that it said, for people.

    `environ` is the server's environment, of which uv sees what it needs; `extra` is added;
    `defaults` are variables that the machine's own settings win over. A cancellation ends it.
    """
    last: deque[str] = deque(maxlen=SHOWN_LINES)
    begun = b""

    def heard(data: bytes) -> None:
        nonlocal begun
        *whole, begun = (begun + data).split(b"\n")
        for line in whole:
            text = plain(line.decode(errors="replace")).rstrip()
            last.append(text)
            say(text)

    child = await start_guarded(
        [uv.find_uv_bin(), *arguments, *_OPTIONS],
        env=dict(defaults or {}) | uv_environment({"NO_COLOR": "1"} | dict(extra), environ=environ),
        cwd=cwd,
        output=heard,
    )
    try:
        code = await child.exited
        await child.output_ended
    except BaseException:  # a cancellation: no build without somebody who waits for it
        await child.stop(grace=1)
        raise
    if begun:
        heard(b"\n")
    if code == 0:
        return None
    return for_people(_complaint(list(last))) or f"uv {how_it_ended(code)}"


def _complaint(lines: list[str]) -> str:
    """From uv's error on; all of it where none is found."""
    begins = (n for n, line in enumerate(lines) if line.lstrip().startswith(("error:", _CROSS)))
    return "\n".join(lines[next(begins, 0) :]).strip()
