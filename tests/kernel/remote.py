"""A Python process inside a pod that runs what a test tells it: one line of code in, one value out.

Values cross as JSON; an OSError comes back as its errno's name, so that a test reads `"EPERM"`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.testbed import Pod, Testbed

_LOOP = """
import errno, json, socket, struct, sys
space = {"socket": socket, "struct": struct}
exec(HELPERS, space)
for line in sys.stdin:
    code = json.loads(line)
    try:
        try:
            compiled = compile(code, "<test>", "eval")
        except SyntaxError:
            exec(code, space)
            reply = {"value": None}
        else:
            reply = {"value": eval(compiled, space)}
    except OSError as error:
        reply = {"value": errno.errorcode.get(error.errno, str(error))}
    except Exception as error:
        reply = {"error": repr(error)}
    print(json.dumps(reply), flush=True)
"""

# Names that tests use inside pods.
_HELPERS = '''
import select
def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET
def dial(address, port, source=None, kind=socket.SOCK_STREAM, keep=None):
    """Connect, return [peer, own] address pairs; the socket stays open under the name `keep`."""
    s = socket.socket(family_of(address), kind)
    s.settimeout(5)
    if source:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(source)
    try:
        s.connect((address, port))
        result = [s.getpeername()[:2], s.getsockname()[:2]]
    except OSError:
        s.close()
        raise
    if keep:
        held[keep] = s
    else:
        s.close()
    return result
def listen(address, port=0, v6only=True):
    l = socket.socket(family_of(address))
    l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in address:
        l.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
    l.bind((address, port))
    l.listen(512)
    l.settimeout(5)
    held[address, l.getsockname()[1]] = l
    return l.getsockname()[1]
def accept(address, port, keep=None):
    s, peer = held[address, port].accept()
    s.settimeout(5)
    if keep:
        held[keep] = s
    else:
        s.close()
    return peer[:2]
def drain(address, port):
    """Accept all that waits: how many."""
    l, n = held[address, port], 0
    l.settimeout(0.1)
    try:
        while True:
            l.accept()[0].close()
            n += 1
    except TimeoutError:
        return n
held = {}
'''


class Remote:
    """A process in a pod's namespace and cgroup (`hooked`), or in its namespace only, as a worker is."""

    def __init__(self, bed: Testbed, pod: Pod, hooked: bool = True) -> None:
        program = f"HELPERS = {_HELPERS!r}\n{_LOOP}"
        argv = [sys.executable, "-S", "-c", program]
        if not hooked:
            argv = ["nsenter", f"--net={pod.netns}", *argv]
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = bed.popen(pod, argv, **options) if hooked else subprocess.Popen(argv, **options)

    def __call__(self, code: str) -> Any:
        """Run one expression or statement there; RuntimeError carries what it raised, errno names excepted."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(code) + "\n")
        stdin.flush()
        reply = json.loads(stdout.readline())
        if "error" in reply:
            raise RuntimeError(f"{code}: {reply['error']}")
        return reply["value"]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
