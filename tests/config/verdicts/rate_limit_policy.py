"""RateLimitPolicies and the API server's verdict on each."""

from __future__ import annotations

from tests.config.verdicts.cases import GONE, Case, Object, bad, cases, good

BASE: Object = {
    "apiVersion": "mesh.nodeagent.dev/v1alpha1",
    "kind": "RateLimitPolicy",
    "metadata": {"name": "cart", "namespace": "verdicts"},
    "spec": {
        "targetRefs": [{"group": "", "kind": "Service", "name": "cart"}],
        "http": {"rules": [{"name": "all", "limit": {"requests": 100, "interval": "1s", "burst": 20}}]},
    },
}
_ROUTE = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"}
_RULE = "spec.http.rules[0]"
_SELECT = f"{_RULE}.clientSelectors"
_ANSWER = "spec.http.onLimit"


def _rules(count: int) -> list[Object]:
    return [{"name": f"r{number}", "limit": {"requests": 1}} for number in range(count)]


CASES: list[Case] = cases(
    BASE,
    [
        good({"spec.targetRefs[0]": _ROUTE, "spec.mode": "Enforce"}),
        good({"spec.http": GONE, "spec.connections": {"limit": {"connections": 1}}}),
        bad("spec.http", GONE, at="spec"),
        bad("spec.targetRefs[0].kind", "Namespace"),
        bad("spec.targetRefs", [_ROUTE], at="spec.targetRefs",
            more={"spec.connections": {"limit": {"connections": 1}}}),
        bad("spec.connections", {}, at="spec.connections.limit"),
        bad("spec.connections.limit", {"requests": 1}, at="spec.connections.limit.connections"),
        # rules
        good({"spec.http.rules": _rules(16)}),
        bad("spec.http.rules", _rules(17)),
        bad("spec.http.rules", []),
        bad("spec.http", {}, at="spec.http.rules"),
        bad("spec.http.rules[1]", {"name": "all", "limit": {"requests": 1}}),
        bad(f"{_RULE}.name", GONE),
        bad(f"{_RULE}.name", "a.b"),
        bad(f"{_RULE}.name", "x" * 64),
        bad(f"{_RULE}.limit", GONE),
        bad(f"{_RULE}.limit.requests", GONE),
        bad(f"{_RULE}.limit.requests", 0),
        good({f"{_RULE}.limit": {"requests": 1_000_000, "interval": "1h", "burst": 1_000_000}}),
        bad(f"{_RULE}.limit.requests", 1_000_001),
        bad(f"{_RULE}.limit.interval", "0s"),
        bad(f"{_RULE}.limit.interval", "1h1ms"),
        bad(f"{_RULE}.limit.burst", 0),
        good({f"{_RULE}.per": "SourceIP"}),
        good({f"{_RULE}.per": "Header", f"{_RULE}.header": "x-api-key"}),
        bad(f"{_RULE}.per", "Header", at=f"{_RULE}.header"),
        bad(f"{_RULE}.header", "x-api-key"),
        bad(f"{_RULE}.header", "x-api-key", more={f"{_RULE}.per": "Total"}),
        bad(f"{_RULE}.header", "x:y", more={f"{_RULE}.per": "Header"}),
        bad(f"{_RULE}.per", "Client"),
        # who is counted
        good({_SELECT: {"serviceAccounts": [{"namespace": "batch", "name": "*"}], "sourceCIDRs": ["10.0.0.0/8"]}}),
        good({_SELECT: {"headers": [{"name": "x", "value": "a b"}, {"name": "X", "value": "\u00e9"}]}}),
        good({_SELECT: {"sourceCIDRs": ["0.0.0.0/0", "::/0", "2001:db8::/32", "192.0.2.1/32"]}}),
        bad(_SELECT, {}),
        bad(f"{_SELECT}.headers", []),
        bad(f"{_SELECT}.headers", [{"name": "x", "value": "1"}, {"name": "x", "value": "2"}],
            at=f"{_SELECT}.headers[1]"),
        bad(f"{_SELECT}.headers", [{"name": "x", "value": " a"}], at=f"{_SELECT}.headers[0].value"),
        bad(f"{_SELECT}.headers", [{"name": "x", "value": "a\tb\x01"}], at=f"{_SELECT}.headers[0].value"),
        bad(f"{_SELECT}.headers", [{"name": "x", "value": "a\n"}], at=f"{_SELECT}.headers[0].value"),
        bad(f"{_SELECT}.headers", [{"name": "x", "value": ""}], at=f"{_SELECT}.headers[0].value"),
        good({f"{_SELECT}.headers": [{"name": "x", "value": "a" * 4096}]}),
        bad(f"{_SELECT}.headers", [{"name": "x", "value": "a" * 4097}], at=f"{_SELECT}.headers[0].value"),
        bad(f"{_SELECT}.serviceAccounts", [{"namespace": "*", "name": "a"}],
            at=f"{_SELECT}.serviceAccounts[0].namespace"),
        bad(f"{_SELECT}.serviceAccounts", [{"name": "a"}], at=f"{_SELECT}.serviceAccounts[0].namespace"),
        bad(f"{_SELECT}.serviceAccounts", [{"namespace": "a", "name": "b"}] * 2, at=f"{_SELECT}.serviceAccounts[1]"),
        *(
            bad(f"{_SELECT}.sourceCIDRs", [text], at=f"{_SELECT}.sourceCIDRs[0]")
            for text in (
                "10.0.0.1/8", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/255.0.0.0", "010.0.0.0/8", "10/8",
                "::ffff:10.0.0.0/104", "fe80::%eth0/64", "2001:db8::/129", "2001:db8::1/32", "10.0.0.0/ 8", "",
                "10.0.0.0/+8", "1::2::3/128", "10.0.0.0/8/8", ":::/0", "10.0.0.0./8",
            )
        ),
        good({f"{_SELECT}.sourceCIDRs": ["::10.0.0.0/104", "2001:DB8::/32", "2001:db8:0:0:0:0:0:0/64"]}),
        # the answer
        good({_ANSWER: {"status": 503, "headers": [{"name": "x-limited-by", "value": "us"}]}}),
        good({_ANSWER: {}}),
        good({f"{_ANSWER}.headers": []}),
        bad(f"{_ANSWER}.status", 399),
        bad(f"{_ANSWER}.status", 600),
        bad(f"{_ANSWER}.headers", [{"name": "Connection", "value": "close"}], at=f"{_ANSWER}.headers"),
        bad(f"{_ANSWER}.headers", [{"name": "host", "value": "a"}], at=f"{_ANSWER}.headers"),
        bad(f"{_ANSWER}.headers", [{"name": "x", "value": "1"}, {"name": "X", "value": "2"}], at=f"{_ANSWER}.headers"),
        bad(f"{_ANSWER}.headers", [{"name": f"x{one}", "value": "1"} for one in range(17)]),
    ],
)
