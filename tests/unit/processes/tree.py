"""A program that makes a family, each of which holds a FIFO open for as long as it lives.

    python tree.py FIFO

Four processes: this one, a child, a grandchild whose parent has gone and which left for a session
of its own, and one that ignores SIGTERM. Each writes a line once it is up.
"""

import os
import signal
import sys


def live(fifo: str) -> None:
    os.write(os.open(fifo, os.O_WRONLY), b"up\n")
    while True:
        signal.pause()


def main(fifo: str) -> None:
    if os.fork() == 0:
        live(fifo)
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        live(fifo)
    if (between := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            live(fifo)
        os._exit(0)
    os.waitpid(between, 0)
    live(fifo)


if __name__ == "__main__":
    main(sys.argv[1])
