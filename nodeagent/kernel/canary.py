"""The canary: `python -m nodeagent.kernel.canary --control-fd N --cgroup PATH` connects once per byte that it is sent.

A process, because hooks leave the agent's cgroup alone; in a network namespace of its own, which has a loopback device
and nothing else, and ends with it.  First it sends "cookie" with a descriptor of that namespace, then a `Fate` each.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

from nodeagent.core.canary import ADDRESS, PORT, Fate
from nodeagent.kernel import setns

CONNECT_SECONDS = 1.0
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_FATES = {
    errno.ECONNRESET: Fate.ANSWERED,  # the worker was faster than our look at what came of the handshake
    errno.ECONNREFUSED: Fate.REFUSED,
    errno.EPERM: Fate.BLOCKED,
    errno.ENETUNREACH: Fate.PASSED,
}


def connect() -> Fate:
    with socket.socket() as dialled:
        dialled.settimeout(CONNECT_SECONDS)
        try:
            dialled.connect((ADDRESS, PORT))
        except TimeoutError:
            return Fate.SILENT  # the listener's queue is full
        except OSError as error:
            return _FATES.get(error.errno or 0, Fate.UNKNOWN)
        try:
            dialled.recv(1)
        except TimeoutError:
            return Fate.SILENT
        except ConnectionResetError:
            pass
        return Fate.ANSWERED


def _loopback_up() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def _introduce(control: socket.socket) -> None:
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        socket.send_fds(control, [str(setns.cookie()).encode()], [namespace])
    finally:
        os.close(namespace)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--cgroup", type=Path, required=True)
    arguments = parser.parse_args()
    (arguments.cgroup / "cgroup.procs").write_text("0")  # ourselves
    setns.leave()
    _loopback_up()
    with socket.socket(fileno=arguments.control_fd) as control:
        _introduce(control)
        while control.recv(1):
            control.send(connect().encode())


if __name__ == "__main__":
    main()
