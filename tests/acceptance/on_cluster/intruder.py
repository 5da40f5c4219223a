"""Runs inside an enrolled pod, as root: tries to reach what is the agent's, and prints as JSON what came of each try.

    python3 intruder.py ADDRESS_OF_ANOTHER_POD

An outcome is the name of the error, or what was reached.  Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable

BPF_SYSCALL, BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID = 321, 11, 12  # x86_64
LISTEN = "0A"
RUN_DIR, PINS = "/run/nodeagent", "/sys/fs/bpf/nodeagent"


def listeners() -> list[int]:
    """Ports at 127.0.0.1 of this network namespace in which somebody listens: the workers of the agent."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    return [int(row[1].partition(":")[2], 16) for row in rows if row[3] == LISTEN and row[1].startswith("0100007F:")]


def named(try_it: Callable[[], object]) -> str:
    try:
        return str(try_it())
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)


def answer_of(address: str, port: int) -> str:
    with socket.create_connection((address, port), 3) as connection:
        connection.sendall(b"GET /items HTTP/1.1\r\nHost: catalog\r\n\r\n")
        return f"answered {connection.recv(100)[:15]!r}"


def admin_socket() -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{RUN_DIR}/admin.sock")
        return "connected"


def bpf(command: int) -> str:
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 0, 0, 0, 0) + bytes(104))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(BPF_SYSCALL, command, attributes, len(attributes)) < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return "allowed"


def command(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return "allowed" if done.returncode == 0 else "refused"


def raw_socket() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP):
        return "allowed"


def abstract_sockets() -> list[str]:
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
        return [line.split()[-1] for line in table if "@" in line]


def processes() -> list[str]:
    """Of the agent, by their names."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as words:
                text = words.read()
        except OSError:
            continue
        if b"nodeagent" in text and int(pid) != os.getpid():
            found.append(pid)
    return found


def main() -> None:
    other = sys.argv[1]
    ports = listeners()
    own = {named(functools.partial(answer_of, "127.0.0.1", port)) for port in ports}
    others = {named(functools.partial(answer_of, other, port)) for port in ports}
    tries: dict[str, object] = {
        "admin socket": named(admin_socket),
        "pins": named(lambda: os.listdir(PINS)),
        "a BPF file system of its own": command("mount", "-t", "bpf", "bpf", "/mnt"),
        "ids of BPF programs": named(lambda: bpf(BPF_PROG_GET_NEXT_ID)),
        "ids of BPF maps": named(lambda: bpf(BPF_MAP_GET_NEXT_ID)),
        "abstract unix sockets": abstract_sockets(),
        "processes of the agent": processes(),
        "listeners here": len(ports),
        "own listener, without connect() of the mesh": sorted(own),
        "another pod's listener": sorted(others),
        "raw socket": named(raw_socket),
        "a route of its own": command("ip", "route", "add", "203.0.113.0/24", "dev", "lo"),
        "route_localnet": named(lambda: write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")),
        "the network namespace of process 1": command("nsenter", "--net=/proc/1/ns/net", "true"),
    }
    print(json.dumps(tries))


def write(path: str, text: str) -> str:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return "allowed"


if __name__ == "__main__":
    main()
