"""Which network namespace is a pod's: that of its oldest process, which is the sandbox's ("pause").

The runtime starts the sandbox first and it lives as long as the namespace, so nothing that runs in the pod later can
put another namespace in its place: not by entering one (a privileged pod, the node's), nor by joining the pod's cgroup.
Where a runtime keeps no sandbox process, the oldest of the containers' stands for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from nodeagent.core import pod_cgroup
from nodeagent.core.pod_cgroup import PodCgroup
from nodeagent.kernel import kubepods, processes
from nodeagent.kernel.kubepods import PodDirectory
from nodeagent.kernel.processes import Inode, Process

# Of a container's processes so many are looked at: those that joined first are listed first.
PROCESSES = 32
# From a sandbox up to who runs it: a shim, conmon; a pod's own processes between are not expected.
ANCESTORS = 8
KTHREADD = 2


class SandboxError(Exception):
    """This pod's namespace cannot be told; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`process` was alive, and in the pod's container, before and after `namespace` was opened."""

    uid: str
    container: str
    process: Process
    namespace: int  # a descriptor
    inode: Inode

    def close(self) -> None:
        self.process.close()
        os.close(self.namespace)


def find(pod: PodDirectory) -> Sandbox | None:
    """None: there is no process yet, or it changes while it is looked at; to be tried again.  SandboxError."""
    seen = list(kubepods.processes(pod.path, PROCESSES))
    if seen and not any(pid for pid, _ in seen):
        raise SandboxError("its processes are in no pid namespace that the agent sees: set hostPID: true")
    ages = [(age, pid, container) for pid, container in seen if pid and (age := processes.started(pid)) is not None]
    if not ages:
        return None
    _, pid, container = min(ages)
    process = processes.pin(pid)
    return _opened(process, PodCgroup(pod.uid, container)) if process is not None else None


def _opened(process: Process, whose: PodCgroup) -> Sandbox | None:
    namespace = -1
    try:
        if pod_cgroup.parse(process.cgroup()) == whose:
            namespace = process.network_namespace()
            if pod_cgroup.parse(process.cgroup()) == whose and process.is_alive():
                inode = processes.inode_behind(namespace)
                return Sandbox(whose.uid, whose.container, process, namespace, inode)
    except PermissionError as error:
        process.close()
        raise SandboxError(
            f"/proc/{process.pid}/ns/net cannot be opened: {error.strerror}; the agent needs the capability SYS_PTRACE"
        ) from error
    except OSError:
        pass  # it has ended
    process.close()
    if namespace >= 0:
        os.close(namespace)
    return None


class NodeNamespaces:
    """The namespaces that are the node's: ours, that of the kernel's threads, and those of who runs the sandboxes.

    Ours alone would not do for an agent with a namespace of its own, nor the kernel threads' where a node is itself in
    one; init's can be closed to us.
    """

    MOST = 8

    def __init__(self) -> None:
        self.descriptors: dict[Inode, int] = {}
        self._add(processes.pin(os.getpid()))
        self._sure = self._add(processes.pin(KTHREADD))

    def include(self, sandbox: Sandbox) -> bool:
        """Whether this "sandbox" is in a namespace of the node: a pod with hostNetwork, or not in its own yet.

        SandboxError if nobody but ourselves could be looked at, and we may be in a namespace of our own.
        """
        self._sure |= self._add(_runtime(sandbox.process))
        if not self._sure:
            raise SandboxError(
                "the node's own network namespace cannot be told, and would be taken for the pod's: "
                "/proc/PID/ns/net of the container runtime cannot be opened. The agent needs hostPID: true and the "
                "capability SYS_PTRACE"
            )
        return sandbox.inode in self.descriptors

    def _add(self, process: Process | None) -> bool:
        """The process is closed.  False if it cannot be looked at."""
        if process is None:
            return False
        try:
            namespace = process.network_namespace()
        except OSError:
            return False
        finally:
            process.close()
        inode = processes.inode_behind(namespace)
        if inode in self.descriptors or len(self.descriptors) >= self.MOST:
            os.close(namespace)
        else:
            self.descriptors[inode] = namespace
        return True

    def close(self) -> None:
        for namespace in self.descriptors.values():
            os.close(namespace)
        self.descriptors.clear()


def _runtime(process: Process) -> Process | None:
    """The nearest ancestor that is in no pod; None if it cannot be told.  The caller closes it."""
    pid = process.parent()
    for _ in range(ANCESTORS):
        found = processes.pin(pid) if pid else None
        if found is None:
            return None
        cgroup = found.cgroup()
        if cgroup and pod_cgroup.parse(cgroup) is None:
            return found
        pid = found.parent()
        found.close()
    return None
