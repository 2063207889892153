"""Ends what an earlier life of the server left behind, should its own safeguards have failed.

Every child carries a mark in its environment, and so does all that came of it, whatever group or
session it moved to. A process is killed for its mark alone: a reused pid can't be mistaken.
"""

import os

import psutil

#: The variable that holds the mark: a random word, new in every life of the server.
MARK = "LAKEPORT_LIFE"


def end_marked(mark: str, *, wait: float = 3.0) -> int:
    """Kill every process that carries `mark`, this one aside; returns how many were found.

    Blocks until they are gone, at most `wait` seconds.
    """
    found = [process for process in psutil.process_iter() if _carries(process, mark)]
    for process in found:
        try:
            process.kill()
        except psutil.Error:
            continue  # gone meanwhile
    psutil.wait_procs(found, timeout=wait)
    return len(found)


def _carries(process: psutil.Process, mark: str) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError, ValueError):
        return False  # somebody else's, or gone
