"""From manifests as dicts to object sets and snapshots, the way the agent goes; and requests to a snapshot."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.conditions import Condition, Conditions
from nodeagent.config.manifest_files import ManifestFile, read_manifest_file
from nodeagent.config.objects import Good, ObjectSet, merge
from nodeagent.core.decide import decide
from nodeagent.core.model import Decision, RequestHead, Snapshot, Workload
from nodeagent.regex import compile_regex
from tests.testbed import manifests
from tests.testbed.manifests import Document

VIP, OTHER_VIP = "198.19.0.1", "198.19.0.2"
POD, OTHER_POD = "198.18.0.11", "198.18.0.12"
WEB, JOB = "198.18.0.2", "198.18.0.3"
Files = Mapping[str, str | bytes]


def text(*documents: Document) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False)


def read(name: str, content: str | bytes) -> ManifestFile:
    return read_manifest_file(name, content.encode() if isinstance(content, str) else content)


def load(files: Files, before: Good | None = None) -> tuple[Good, ObjectSet]:
    """What the files say, after `before` was in force."""
    return merge([read(name, content) for name, content in files.items()], before or {})


def objects(*documents: Document) -> ObjectSet:
    """A set without any problem."""
    found = load({"all.yaml": text(*documents)})[1]
    assert not found.problems, [str(problem) for problem in found.problems]
    return found


def compiled(*documents: Document) -> tuple[Snapshot, Conditions]:
    return compile_objects(objects(*documents), 1)


def snapshot(*documents: Document) -> Snapshot:
    return compiled(*documents)[0]


def said(conditions: Iterable[Condition]) -> list[tuple[object, ...]]:
    """Whatever the order, and since whichever generation."""
    return sorted(((one.kind, one.object, *one.words) for one in conditions), key=repr)


def same(one: tuple[Snapshot, Conditions], other: tuple[Snapshot, Conditions]) -> bool:
    """Two compiles that came to the same; what did not change may be said since an older generation."""
    assert all(condition.generation <= one[0].generation for condition in one[1])
    return one[0] == other[0] and said(one[1]) == said(other[1])


def pod(namespace: str, name: str, address: str, account: str = "default") -> Document:
    return manifests.pod(namespace, name, [address], Path("/run/netns") / name, service_account=account)


def callers() -> list[Document]:
    """Pods shop/web and batch/job, and their namespaces."""
    return [
        manifests.namespace("shop"),
        manifests.namespace("batch"),
        pod("shop", "web", WEB, "web"),
        pod("batch", "job", JOB, "job"),
    ]


def service(name: str, vip: str = VIP, address: str = POD, namespace: str = "shop") -> list[Document]:
    """A Service with one ready endpoint on port 8080; address "" = none is ready."""
    addresses = [address] if address else []
    return [manifests.service(namespace, name, [vip]), manifests.endpoint_slice(namespace, name, addresses)]


def head(
    path: str = "/", method: str = "GET", host: str = "cart", headers: Mapping[str, str] | None = None
) -> RequestHead:
    return RequestHead(method, path, "", host, tuple((headers or {}).items()))


def ask(
    snap: Snapshot,
    caller: str,
    target: tuple[str, int] = (VIP, 80),
    request: RequestHead | None = None,
    rand: float = 0.0,
) -> Decision:
    """What the data path does with a request of pod `caller` ("namespace/name") to `target`."""
    workload = snap.workloads[caller]
    destination = snap.destination(*target)
    assert destination is not None, f"{target} is no destination"
    return decide(destination, workload, _address(workload), request or head(), rand, compile_regex)


def statuses(snap: Snapshot, caller: str, request: RequestHead | None = None, tries: int = 100) -> dict[int, int]:
    """How often each status is decided over an even spread of random numbers; 0 = forwarded."""
    given = (ask(snap, caller, request=request, rand=number / tries).status for number in range(tries))
    return {status: len(list(group)) for status, group in itertools.groupby(sorted(given))}


def policy(
    name: str, action: str, rules: Sequence[Document], *, service: str = "cart", level: str = "Application"
) -> Document:
    return manifests.authorization_policy("shop", name, service, action=action, level=level, rules=rules)


def namespace_policy(
    namespace: str, name: str, action: str, rules: Sequence[Document], *, level: str = "Network"
) -> Document:
    one = manifests.authorization_policy(namespace, name, namespace, action=action, level=level, rules=rules)
    one["spec"]["targetRefs"][0]["kind"] = "Namespace"
    return one


def condition(conditions: Iterable[Condition], kind: str, object_: str) -> Condition:
    """The one condition of type `kind` of an object."""
    found = [one for one in conditions if one.type == kind and one.object == object_]
    assert len(found) == 1, found
    return found[0]


def _address(workload: Workload) -> str:
    return workload.addresses[0]
