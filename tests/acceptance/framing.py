"""Acceptance 6: the tables of hostile HTTP/1 messages, from a client in one pod to an upstream in another."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests import peers
from tests.acceptance import in_force
from tests.acceptance import shop as shops
from tests.acceptance.shop import Shop
from tests.testbed import manifests
from tests.testbed.agent import REPOSITORY

VIP = 8
PORT = 8300

PATH_RULES = {
    "exact": {"type": "Exact", "value": "/admin"},
    "prefix": {"type": "PathPrefix", "value": "/admin"},
    "regex": {"type": "RegularExpression", "value": "/admin(/.*)?"},
}
OTHER_RULES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("hosts", {"hosts": ["admin.shop"]}),
    ("hosts", {"hosts": ["*.shop"]}),
    ("headers", {"headers": [{"name": "x-env", "value": "test"}]}),
    ("headers", {"headers": [{"type": "RegularExpression", "name": "x-env", "value": "test"}]}),
    ("methods", {"methods": ["DELETE"]}),
)


@dataclass(frozen=True)
class Outcome:
    rows: int
    failed: Mapping[str, str]


def prepare(shop: Shop) -> None:
    """A Service `wire` on the proxied rung, whose upstream each suite brings along."""
    peers.build("reparse")  # here, so that a suite in a pod finds it built
    route = manifests.http_route("shop", "wire", "wire", [{"backendRefs": [manifests.backend("wire", 1)]}])
    documents = [*shops.service(shop.bed, VIP, "wire", [shop.v1], target=PORT), route]
    in_force.apply(shop, lambda: shop.bed.manifests.write("60-wire.yaml", *documents))


def run(shop: Shop, suite: str, *options: str) -> Outcome:
    """One suite of framing_rows.py in the pod web against the pod catalog-v1."""
    argv = [sys.executable, "-m", "tests.acceptance.framing_rows", suite]
    argv += [str(shop.v1.netns), str(PORT), f"{shop.bed.vip(VIP)}:80", *options]
    environment = ["env", f"PYTHONPATH={REPOSITORY}", f"HOME={os.environ.get('HOME', '/root')}"]
    before = proxied(shop)
    done = shop.bed.run(shop.web, [*environment, *argv], timeout=300)
    assert done.returncode == 0, done.stderr
    outcome = Outcome(**json.loads(done.stdout))
    # a worker tells its figures with its heartbeat
    in_force.wait_until(lambda: proxied(shop) - before >= outcome.rows, 5, "every row went through a worker")
    return outcome


def proxied(shop: Shop) -> int:
    return int(sum(worker["stats"]["accepted"] for worker in in_force.status(shop)["workers"]))


def denied(shop: Shop, suite: str, operation: dict[str, Any], *options: str) -> Outcome:
    """A suite under a DENY with that `http` part."""
    rule = shops.deny("wire-deny", "wire", "web", http=operation)
    in_force.apply(shop, lambda: shop.bed.manifests.write("61-wire-deny.yaml", rule))
    return run(shop, suite, *options)


def passing_without_a_rule(shop: Shop) -> int:
    """The control: spellings of /admin that reach the upstream while nothing denies it."""
    in_force.apply(shop, lambda: shop.bed.manifests.remove("61-wire-deny.yaml"))
    return len(run(shop, "paths").failed)


def paths(shop: Shop) -> dict[str, Outcome]:
    """Every spelling of a path, against each kind of path match."""
    return {
        kind: denied(shop, "paths", {"paths": [match]}, *(["--exact"] if kind == "exact" else []))
        for kind, match in PATH_RULES.items()
    }


def tricks(shop: Shop) -> dict[str, Outcome]:
    """Every spelling of a host, a header and a method, against each kind of match."""
    return {json.dumps(rule): denied(shop, suite, rule) for suite, rule in OTHER_RULES}
