"""Calls of Linux that Python's `os` may lack.

It has those that were known where the interpreter was built, and the builds that uv and conda
install long knew less than the kernels that they run on. So they are asked of the C library.
"""

import ctypes
import errno
import os
from typing import Any

#: For `os.waitid`: a process by a descriptor of it.
P_PIDFD = 3
#: The number of the system call, one for all architectures.
_PIDFD_OPEN = 434
_MFD_CLOEXEC = 1


def pidfd_open(pid: int) -> int:
    """A descriptor of a process, readable once it has ended. Raises OSError."""
    return _called("syscall", *map(ctypes.c_long, (_PIDFD_OPEN, pid, 0)))


def memfd_create(name: str) -> int:
    """A descriptor of a file in memory, gone with the last that has it open. Raises OSError."""
    return _called("memfd_create", name.encode(), _MFD_CLOEXEC)


def prctl(option: int, value: Any) -> None:
    """Raises OSError."""
    _called("prctl", option, value, 0, 0, 0)


def _called(name: str, *arguments: Any) -> int:
    call = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    result: int = call(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
