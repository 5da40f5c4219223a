"""What a process of the data plane gives up before it touches a byte of anybody's traffic.

A worker: every capability, its uid, and every system call that serving connections does not need.
The broker: every capability but those that entering a namespace and making a socket take.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Collection

NOBODY = 65534
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
_CAP_LAST = 63
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

_BPF_COMMANDS = (1, 3, 10, 21)
"""LOOKUP_ELEM, DELETE_ELEM, PROG_TEST_RUN, LOOKUP_AND_DELETE_ELEM: maps and programs by inherited descriptor,
nothing that opens or loads."""

_CALLS = (  # noqa: SIM905 - a list of words, read and reviewed as lines of words
    # sockets that exist already: a worker makes none and binds none
    "accept4 accept connect shutdown getsockname getpeername getsockopt setsockopt sendto sendmsg recvfrom recvmsg "
    # bytes and descriptors
    "read write readv writev close fcntl dup ioctl lseek fstat newfstatat stat lstat readlink "
    "epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect6 eventfd2 pipe2 "
    # memory, threads of the interpreter, time, signals to oneself
    "brk mmap munmap mremap madvise mprotect futex set_robust_list rseq gettid getpid getppid clock_gettime "
    "clock_nanosleep nanosleep gettimeofday getrandom sched_yield sched_getaffinity rt_sigaction rt_sigprocmask "
    "rt_sigreturn sigaltstack restart_syscall getrusage getuid geteuid getgid getegid getrlimit sysinfo "
    "uname exit exit_group membarrier"
).split()

_LOOK = ("getdents64", "getcwd", "access", "faccessat", "faccessat2")
_OPEN_FLAGS = {"open": 1, "openat": 2}
"""Call -> position of its flags.  For modules that Python imports late: read-only, and the worker is nobody by then."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)


def confine_worker() -> None:
    """Irrevocable.  OSError or RuntimeError when the kernel refuses: then the process must not serve."""
    _drop_bounding_set(keep=())
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)  # from root to another uid: every capability goes with it
    _prctl(_PR_SET_DUMPABLE, 0)  # no other process of the uid may trace it or read its memory
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _filter_calls()


def confine_broker() -> None:
    """Keep SYS_ADMIN for setns() and NET_ADMIN for buffer sizes; nothing comes back by exec."""
    keep = (CAP_NET_ADMIN, CAP_SYS_ADMIN)
    _drop_bounding_set(keep)
    _set_capabilities(keep)
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        _raise(f"prctl {option}")


def _raise(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{os.strerror(number)} ({what})")


def _drop_bounding_set(keep: Collection[int]) -> None:
    for capability in range(_CAP_LAST + 1):
        if capability in keep:
            continue
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            if ctypes.get_errno() == errno.EINVAL:
                return  # past the last capability that this kernel knows
            _raise(f"dropping capability {capability}")


def _set_capabilities(keep: Collection[int]) -> None:
    """Exactly these, in so far as the process has them."""
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    if _libc.capget(ctypes.byref(header), data) != 0:
        _raise("capget")
    mask = sum(1 << capability for capability in keep)
    for index in range(2):
        half = (mask >> (32 * index)) & 0xFFFFFFFF
        data[index].permitted &= half
        data[index].effective = data[index].permitted
        data[index].inheritable = 0
    if _libc.capset(ctypes.byref(header), data) != 0:
        _raise("capset")


def _filter_calls() -> None:
    """Other calls fail with EPERM.  Not a kill: a C library that tries a newer call first must be able to fall back."""
    import seccomp  # libseccomp's own binding, Debian's python3-seccomp

    calls = seccomp.SyscallFilter(defaction=seccomp.ERRNO(errno.EPERM))
    for name in (*_CALLS, *_LOOK):
        calls.add_rule(seccomp.ALLOW, name)
    for name, position in _OPEN_FLAGS.items():
        calls.add_rule(seccomp.ALLOW, name, seccomp.Arg(position, seccomp.MASKED_EQ, _WRITING, 0))
    # Workers share a uid: neither signals nor limits may reach another one.
    calls.add_rule(seccomp.ALLOW, "tgkill", seccomp.Arg(0, seccomp.EQ, os.getpid()))
    calls.add_rule(seccomp.ALLOW, "prlimit64", seccomp.Arg(0, seccomp.EQ, 0))
    for command in _BPF_COMMANDS:
        calls.add_rule(seccomp.ALLOW, "bpf", seccomp.Arg(0, seccomp.EQ, command))
    for name in ("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev"):
        calls.add_rule(seccomp.KILL_PROCESS, name)  # nothing honest here ever asks for these
    calls.load()
