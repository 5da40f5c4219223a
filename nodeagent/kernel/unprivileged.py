"""May a process without privileges use a map whose descriptor it inherited?  Workers depend on it."""

from __future__ import annotations

import os

from nodeagent.kernel import bpf_map

NOBODY = 65534
_SPEC = bpf_map.MapSpec("na_probe", bpf_map.MAP_TYPE_HASH, 4, 4, 1, 0)


def probe() -> str:
    """ "" = yes; else the kernel's error.  Needs root; the map and the child are gone afterwards."""
    opened = bpf_map.Map.from_fd(bpf_map.map_create(_SPEC))
    reader, writer = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            _in_child(opened, writer)
        os.close(writer)
        with os.fdopen(reader) as answers:
            problem = answers.read()
        os.waitpid(child, 0)
        return problem
    finally:
        opened.close()


def _in_child(opened: bpf_map.Map, writer: int) -> None:
    """Never returns."""
    status = 1
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        opened.update(b"key1", b"val1")
        opened.take(b"key1")
        status = 0
    except OSError as error:
        os.write(writer, str(error).encode())
    finally:
        os._exit(status)
