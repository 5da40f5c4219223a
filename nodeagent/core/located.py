"""Addresses of pods that the API server does not know yet: the kubelet reports them after the sandbox is made."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace

from nodeagent.core.differences import Edition
from nodeagent.core.model import Snapshot, Workload


def located(snapshot: Snapshot, found: Mapping[str, tuple[str, ...]]) -> Snapshot:
    """Until then those of its namespace count (`found`, by the pod's key): a rule by address must not miss it."""
    missing = {
        key: replace(workload, addresses=places)
        for key, addresses in found.items()
        if (workload := snapshot.workloads.get(key)) is not None
        and not workload.addresses
        and (places := tuple(address for address in addresses if _is_reachable(address)))
    }
    return replace(snapshot, workloads=_with(snapshot.workloads, missing)) if missing else snapshot


def _with(workloads: Mapping[str, Workload], new: Mapping[str, Workload]) -> Mapping[str, Workload]:
    """Of an Edition the next one, so that who compares the two need not look at every pod of the cluster."""
    return workloads.next(new) if isinstance(workloads, Edition) else {**workloads, **new}


def _is_reachable(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return not address.is_loopback and not address.is_link_local
