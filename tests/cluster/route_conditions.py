"""Which conditions HTTPRoutes had while they were there, by `kubectl get --watch`: a test's routes live for seconds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.cluster import Cluster

# Not -o jsonpath: after a `range` over nothing, kubectl prints no further object of a watch.
WATCH = ("get", "httproutes", "--all-namespaces", "--watch", "--output-watch-events", "-o", "json")


@dataclass
class Seen:
    """One route at one generation, and each condition that it ever had, as "Accepted=True"."""

    name: str
    conditions: set[str] = field(default_factory=set)


@contextmanager
def watched(cluster: Cluster, file: Path) -> Iterator[None]:
    """Has everything that happens to HTTPRoutes meanwhile written into `file`, for `seen`."""
    command = [str(cluster.kubectl_program), *WATCH]
    with file.open("wb") as out, subprocess.Popen(command, stdout=out) as process:
        try:
            yield
        finally:
            process.terminate()


def seen(file: Path) -> list[Seen]:
    """One for each route and generation.  What a condition says of an older generation does not count."""
    found: dict[tuple[str, int], Seen] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        route = json.loads(line)["object"]
        metadata, generation = route["metadata"], route["metadata"]["generation"]
        one = found.setdefault((metadata["uid"], generation), Seen(f"{metadata['namespace']}/{metadata['name']}"))
        conditions = [each for parent in route.get("status", {}).get("parents", ()) for each in parent["conditions"]]
        one.conditions |= {
            f"{each['type']}={each['status']}" for each in conditions if each["observedGeneration"] == generation
        }
    return list(found.values())
