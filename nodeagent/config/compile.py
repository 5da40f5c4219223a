"""All objects -> one Snapshot, and what to say about each object.  Pure.

What applies at a target is in `destinations`; how a change finds the targets that it meets, in `compilation`.
"""

from __future__ import annotations

from typing import NamedTuple

from nodeagent.config.compilation import Compilation, Options
from nodeagent.config.conditions import Conditions
from nodeagent.config.groundwork import Groundwork, Outdated, lay
from nodeagent.config.objects import ObjectSet
from nodeagent.core.model import Snapshot


def compile(  # noqa: A001  (the word for it)
    objects: ObjectSet,
    generation: int,
    *,
    refuse_broken: bool = True,
    allow_faults: bool = False,
    kube_proxy: bool = False,
    groundwork: Groundwork | None = None,
) -> tuple[Snapshot, Conditions]:
    """Compile everything.

    `refuse_broken`: what a policy protects that never was good is refused.  `allow_faults`: TrafficPolicies may
    inject faults.  `kube_proxy`: it is there to choose the endpoint of direct connections where a Service has
    sessionAffinity.  `groundwork` is that of these objects, for who has it already: what the last call with it made and
    nothing changed is in the new snapshot, too: who comes later looks only at what is another object than before.
    """
    ground = groundwork or lay(objects)
    work, outdated = _begin(ground, Options(refuse_broken, allow_faults, kube_proxy))
    made = work.update(objects, ground, outdated, generation)
    ground.compiled(_Kept(work, work.version))
    return made


class _Kept(NamedTuple):
    """What a groundwork remembers.  Another one may have it too, and the compilation goes on with one of them."""

    work: Compilation
    version: int


def _begin(ground: Groundwork, options: Options) -> tuple[Compilation, Outdated]:
    """The compilation that was made on this ground, or one in which everything is outdated."""
    for kept, outdated in zip(ground.kept, ground.outdated, strict=True):
        if isinstance(kept, _Kept) and kept.work.options == options and kept.work.version == kept.version:
            return kept.work, outdated
    topology, ownership = ground.topology, ground.ownership
    everything = Outdated(set(topology.services), set(topology.owners), set(ownership.addresses))
    return Compilation(options), everything
