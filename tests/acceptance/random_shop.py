"""Random configurations of the shop and random requests to it: small vocabularies, so that rules and requests meet."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.shop import Shop
from tests.testbed import manifests

HOLLOW = 11  # the VIP of a Service without endpoints
SERVICES = {"catalog": 1, "catalog-v1": 2, "catalog-v2": 3, "raw": 5, "hollow": HOLLOW}
OPAQUE = 4  # the VIP of `echo`, which is not HTTP
ROUTED = ("catalog", "catalog", "raw", "hollow", "catalog-v1")
BACKENDS = (("catalog-v1", 80), ("catalog-v2", 80), ("raw", 80), ("hollow", 80), ("ghost", 80), ("catalog-v1", 81))
METHODS = ("GET", "POST", "PUT")
DOMAINS = ("a.test", "b.test")
PATHS = ("/", "/a", "/a/b", "/b", "/admin")
PATTERNS = ("/a(/.*)?", "/[ab]", "/.*b", "/adm.n")
TARGETS = (*PATHS, *PATHS, "/a/", "/ab", "/a/b/c", "/%61", "//a", "/b/../admin", "/b%2Fa", "/a;x=1", "/%zz")
QUERIES = ("", "", "?v=1", "?v=2", "?v=1&v=2", "?w=1")


@dataclass(frozen=True)
class Question:
    """One request, as explain is asked about it and as it is sent."""

    caller: str  # "namespace/pod"
    address: str
    port: int
    method: str  # "" = connect only
    path: str
    headers: tuple[tuple[str, str], ...]

    @property
    def host(self) -> str:
        """Differs between any two questions, so that a record of `observe` can be told."""
        return dict(self.headers)["host"]

    def explain(self) -> dict[str, Any]:
        to = f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
        headers = [list(pair) for pair in self.headers]
        return {"from": self.caller, "to": to, "method": self.method or "GET", "path": self.path, "headers": headers}


@dataclass(frozen=True)
class Dice:
    """The vocabularies, and one generator for all that is random."""

    shop: Shop
    random: random.Random

    def some(self, make: Callable[[], Any], most: int, least: int = 0) -> list[Any]:
        return [make() for _ in range(self.random.randint(least, most))]

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    # -- routes -------------------------------------------------------------------------------------
    def route(self, number: int) -> manifests.Document:
        namespace = "vault" if self.chance(0.25) else "shop"  # of another namespace: for its own callers only
        document = manifests.http_route(namespace, f"route-{number}", "", self.some(self.rule, 3, 1))
        parent = {"group": "", "kind": "Service", "namespace": "shop", "name": self.random.choice(ROUTED)}
        document["spec"]["parentRefs"] = [parent]
        if self.chance(0.5):
            document["metadata"]["creationTimestamp"] = f"2026-01-0{self.random.randint(1, 3)}T00:00:00Z"
        return document

    def rule(self) -> dict[str, Any]:
        rule: dict[str, Any] = {"backendRefs": self.some(self.backend, 3, 0 if self.chance(0.2) else 1)}
        matches = self.some(self.match, 2)
        return {**rule, "matches": matches} if matches else rule

    def backend(self) -> dict[str, Any]:
        name, port = self.random.choice(BACKENDS)
        return {"namespace": "shop", **manifests.backend(name, self.random.choice((0, 1, 1, 2)), port)}

    def match(self) -> dict[str, Any]:
        match: dict[str, Any] = {}
        if self.chance(0.7):
            match["path"] = self.path()
        if self.chance(0.3):
            match["method"] = self.random.choice(METHODS)
        if self.chance(0.25):
            match["headers"] = [self.header()]
        if self.chance(0.2):
            match["queryParams"] = [self.typed({"name": "v"}, ("1", "2"), "[12]")]
        return match or {"method": "GET"}

    def path(self) -> dict[str, str]:
        kind = self.random.choice(("Exact", "PathPrefix", "RegularExpression"))
        return {"type": kind, "value": self.random.choice(PATTERNS if kind == "RegularExpression" else PATHS)}

    def header(self) -> dict[str, str]:
        return self.typed({"name": "x-env"}, ("test", "live"), "t.*")

    def typed(self, match: dict[str, str], values: Sequence[str], pattern: str) -> dict[str, str]:
        if self.chance(0.3):
            return {**match, "type": "RegularExpression", "value": pattern}
        return {**match, "value": self.random.choice(values)}

    # -- policies -----------------------------------------------------------------------------------
    def policy(self, number: int) -> manifests.Document:
        application = self.chance(0.75)
        target = self.random.choice((*ROUTED, "catalog-v2", "echo"))
        document = manifests.authorization_policy(
            "shop",
            f"policy-{number}",
            target,
            action=self.random.choice(("DENY", "DENY", "DENY", "ALLOW", "AUDIT")),
            level="Application" if application else "Network",
            rules=self.some(lambda: self.policy_rule(application), 2, 1),
        )
        if self.chance(0.1):
            document["spec"]["targetRefs"] = [{"group": "", "kind": "Namespace", "name": "shop"}]
        return document

    def policy_rule(self, application: bool) -> dict[str, Any]:
        rule: dict[str, Any] = {}
        if self.chance(0.7):
            rule["sources"] = self.some(self.source, 2, 1)
        if self.chance(0.2):
            rule["networkAttributes"] = {"ports": [self.random.choice((80, 8080, 81))]}
        if application and self.chance(0.9):
            rule["http"] = self.operation()
        return rule

    def source(self) -> dict[str, Any]:
        return self.random.choice(
            (
                {"serviceAccount": {"namespace": "shop", "name": "web"}},
                {"serviceAccount": {"namespace": "vault", "name": "*"}},
                {"namespace": "vault"},
                {"cidr": f"{self.shop.web.ipv4}/32"},
                {"cidr": "198.18.0.0/16"},
            )
        )

    def operation(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "methods": self.some(lambda: self.random.choice(METHODS), 1, 1),
            "paths": self.some(self.path, 2, 1),
            "hosts": [f"*.{self.random.choice(DOMAINS)}"],
            "headers": [self.header()],
        }
        return {name: parts[name] for name in self.random.sample(sorted(parts), self.random.choice((1, 1, 2)))}

    # -- requests -----------------------------------------------------------------------------------
    def question(self, number: int) -> Question:
        caller = self.random.choices((self.shop.web, self.shop.vault, self.shop.plain), (5, 4, 1))[0]
        pods = [(address, 8080) for pod in (self.shop.v1, self.shop.v2) for address in (pod.ipv4, pod.ipv6)]
        bed = self.shop.bed
        fronts = [(vip(number), 80) for number in SERVICES.values() for vip in (bed.vip, bed.vip, bed.vip6)]
        address, port = self.random.choice(pods if caller is self.shop.plain or self.chance(0.15) else fronts)
        method = self.random.choice(METHODS)
        if caller is not self.shop.plain and self.chance(0.05):
            address, port, method = bed.vip(OPAQUE), 80, ""
        headers = [("host", f"q{number}.{self.random.choice(DOMAINS)}")]
        if self.chance(0.5):
            headers.append(("X-Env", self.random.choice(("test", "live"))))
        path = self.random.choice(TARGETS) + self.random.choice(QUERIES)
        return Question(caller.key, address, port, method, path, tuple(headers))
