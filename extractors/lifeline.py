"""A child process that ends with its parent, however the parent ends, and takes no more than it is given.

The parent keeps one end of a pipe and the child gets the other; nothing is ever written into it. The kernel closes the parent's
end when the parent dies, of SIGKILL too, and sends the child the signal that it has asked for.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import sys


def lifeline() -> tuple[int, int]:
    """A pipe: the child's end and the parent's.

    Neither is one of the numbers 0 to 2, which a child's own streams take even if they are free here.
    """
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3))
        os.close(end)
    return ends[0], ends[1]


def die_with_parent(lifeline: int) -> None:
    """Have the kernel end this process when the parent closes the other end of the pipe `lifeline`, or dies.

    A closed pipe raises SIGIO, and that ends a process that has made no arrangement for it, whatever thread holds
    whatever lock. (PR_SET_PDEATHSIG would also end it when only the thread that started it ends.)
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    watch = select.poll()
    watch.register(lifeline, 0)
    if watch.poll(0):  # it was closed before the arrangement
        sys.exit("the parent is gone")


def limit_self(memory_bytes: int, file_bytes: int) -> None:
    """Bound what this process can take: address space, no core, no file larger than this."""
    for kind, amount in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_bytes),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))
