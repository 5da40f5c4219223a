"""A server that takes connections and nothing else: it reads no byte and never answers.  `stalled.py PORT`"""

from __future__ import annotations

import resource
import select
import socket
import sys


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=4096)
    listener.setblocking(False)
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    taken: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poller.poll():
            if fd in taken:  # its client is gone
                taken.pop(fd).close()
                continue
            sock, _ = listener.accept()
            taken[sock.fileno()] = sock
            poller.register(sock, select.EPOLLRDHUP)


if __name__ == "__main__":
    main()
