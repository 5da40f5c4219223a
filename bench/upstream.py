"""The upstream: one nginx worker that every path ends at, in the namespace `nab-up`.

It has one listening socket per kind of path.  A socket belongs to the cgroup it was made in, and so
do the connections it accepts; each listener is therefore made in the cgroup of its path, and nginx
inherits them all.  So hooks on the accepting side are charged to the mesh's paths and to no other,
while the process that serves is the same one.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import children, topology

PLAIN, DIRECT, ROUTED, POLICIED = 8080, 8081, 8082, 8083  # no mesh and Envoy; rungs 0 and 1; rung 3; with policies
LARGE_BYTES = 1_000_000
ADDRESS = topology.ADDRESSES[topology.UP]

# keepalive_requests: the default closes a connection after 1,000 requests, and nobody measures that here.
CONFIG = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log error;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 600s; default_type text/plain;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    {listens}
    location = /large {{ alias {directory}/large; }}
    location /admin/ {{ add_header x-upstream seen always; return 403 "refused by the application\\n"; }}
    location / {{ return 200 "a body of forty-five bytes, newline and all.\\n"; }}
  }}
}}
"""


def _make_listener(port: int, cgroup: Path) -> socket.socket:
    """A listening socket in namespace `nab-up` that belongs to `cgroup`; this process is back home afterwards."""
    home_cgroup = topology.own_cgroup()
    with open("/proc/self/ns/net", "rb") as home, open(topology.NETNS_DIR / topology.UP, "rb") as namespace:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
        _set_namespace(namespace.fileno())
        try:
            listener = socket.create_server((ADDRESS, port), backlog=4096)
        finally:
            _set_namespace(home.fileno())
            (home_cgroup / "cgroup.procs").write_text(str(os.getpid()))
    listener.setblocking(False)
    return listener


def _set_namespace(fd: int) -> None:
    if children.LIBC.setns(fd, 0):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def serving(cgroups: topology.Cgroups, directory: Path) -> Iterator[None]:
    """nginx on all ports for the length of a `with`; its files live in `directory`."""
    places = {PLAIN: cgroups.plain, DIRECT: cgroups.pods, ROUTED: cgroups.pods, POLICIED: cgroups.pods}
    listens = " ".join(f"listen {ADDRESS}:{port} backlog=4096;" for port in places)
    (directory / "nginx.conf").write_text(CONFIG.format(directory=directory, listens=listens))
    (directory / "large").write_bytes(os.urandom(LARGE_BYTES))
    directory.chmod(0o755)
    argv = ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf")]
    with ExitStack() as stack:
        listeners = [stack.enter_context(_make_listener(port, cgroup)) for port, cgroup in places.items()]
        fds = [listener.fileno() for listener in listeners]
        inherited = {"NGINX": "".join(f"{fd};" for fd in fds)}
        place = children.Place(topology.UP, cgroups.plain)
        stack.enter_context(children.running(place, argv, env=inherited, pass_fds=fds))
        yield
