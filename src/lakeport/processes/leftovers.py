"""Ends what an earlier life of the server left behind, should its own safeguards have failed.

Every child carries a mark in its environment, and so does all that came of it, whatever group or
session it moved to. A process is killed for its mark alone: a reused pid can't be mistaken.

Run as a script, `python -I leftovers.py MARK`, it waits for the end of its stdin, which is the
death of the server, and then ends what carries the mark: subprocesses of models above all, whose
workers died too quickly to take them along.
"""

import os
import sys

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


def main(mark: str) -> None:
    while os.read(0, 4096):
        pass
    while end_marked(mark):
        pass  # until nothing new was born meanwhile


if __name__ == "__main__":
    main(sys.argv[1])
