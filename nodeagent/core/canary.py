"""The canary connect: what comes of one says whether the hooks do what the agent thinks that they do.

The canary is a pod of the agent's own, with a network namespace that has no way out, and only it dials ADDRESS: what
is not redirected ends at once.
"""

from __future__ import annotations

import enum

KEY = "canary"
"""As no pod's key, which has a slash.  Workers reset a caller whom they do not find in their configuration."""
ADDRESS, PORT = "192.0.2.1", 1  # TEST-NET-1: nobody's (RFC 5737)
ID = 0xFFFFFFFF
"""Of its workload and destination in the kernel's counters, which readers leave out."""


class Fate(enum.StrEnum):
    ANSWERED = "answered"  # by a worker, which resets it
    SILENT = "silent"  # redirected to a listener, and nobody takes it from there
    REFUSED = "refused"  # judged, and no worker was found
    PASSED = "passed"  # as if there were no hook
    BLOCKED = "blocked"  # by somebody else
    UNKNOWN = "unknown"  # it could not be made, or nobody said


def problem(fate: Fate) -> str:
    """ "" = hooks redirect and a worker answers.  Links are checked before: here they are there."""
    return _PROBLEMS[fate]


_PROBLEMS = {
    Fate.ANSWERED: "",
    Fate.SILENT: "a connect of the canary reached a worker's listener, and no worker answers there",
    Fate.REFUSED: "a connect of the canary was refused: the hooks find no worker that beats and listens",
    Fate.PASSED: (
        "a connect of the canary was not redirected: hooks are attached, and do not act on this agent's maps. "
        "`nodeagent bpf progs` shows what is attached; a restart of the agent attaches its own"
    ),
    Fate.BLOCKED: (
        "a connect of the canary was refused by another program than ours: `nodeagent doctor` lists those on our hooks"
    ),
    Fate.UNKNOWN: "the canary cannot make a connect; the agent's log says why",
}
