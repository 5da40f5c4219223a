"""AuthorizationPolicies and the API server's verdict on each."""

from __future__ import annotations

from typing import Any

from tests.config.verdicts.cases import GONE, Case, Change, Object, bad, cases, good

BASE: Object = {
    "apiVersion": "mesh.nodeagent.dev/v1alpha1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "cart", "namespace": "verdicts"},
    "spec": {
        "targetRefs": [{"group": "", "kind": "Service", "name": "cart"}],
        "action": "DENY",
        "enforcementLevel": "Application",
        "rules": [{"sources": [{"namespace": "batch"}], "http": {"methods": ["GET"]}}],
    },
}
_RULE = "spec.rules[0]"
_SOURCE = f"{_RULE}.sources[0]"
_HTTP = f"{_RULE}.http"


def _path(kind: str, value: str) -> Change:
    return good({f"{_HTTP}.paths": [{"type": kind, "value": value}]})


def _no_path(kind: str, value: Any) -> Change:
    return bad(f"{_HTTP}.paths", [{"type": kind, "value": value}], at=f"{_HTTP}.paths[0].value")


def _header(**item: str) -> list[dict[str, str]]:
    return [{"name": "x", **item}]


CASES: list[Case] = cases(
    BASE,
    [
        *(good({"spec.action": one}) for one in ("ALLOW", "AUDIT", None)),
        good({"spec.rules": GONE}),
        good({"spec.rules": []}),
        good({"spec.rules": [{}]}),
        good({"spec.rules": [{"sources": [{"namespace": "a"}]}] * 64}),
        good({"spec.targetRefs": [{"kind": "Namespace", "name": "verdicts"}], "spec.mode": "DryRun"}),
        bad("spec.targetRefs[0]", {"kind": "Namespace", "name": "other"}, at="spec.targetRefs[0].name"),
        bad("spec.targetRefs[0].kind", "HTTPRoute"),
        bad("spec.targetRefs[0].group", "apps"),
        bad("spec.targetRefs[0].sectionName", "http"),
        bad("spec.targetRefs[1]", {"kind": "Service", "name": "cart"}),
        bad("spec.action", "CUSTOM"),
        bad("spec.action", "allow"),
        bad("spec.enforcementLevel", GONE),
        bad("spec.enforcementLevel", "network"),
        bad("spec.enforcementLevel", "Network", at="spec.rules"),
        bad("spec.rules", [{}] * 65),
        bad("spec.rules", [None], at="spec.rules[0]"),
        bad("spec.rules[0].to", []),
        # sources
        good({_SOURCE: {"serviceAccount": {"namespace": "a", "name": "*"}}}),
        good({_SOURCE: {"serviceAccount": {"namespace": "a", "name": "b.c-d"}}}),
        good({_SOURCE: {"cidr": "10.0.0.0/8", "namespace": None}}),
        good({f"{_RULE}.sources": [{"cidr": "10.0.0.0/8"}] * 64}),
        bad(f"{_RULE}.sources", [{"cidr": "10.0.0.0/8"}] * 65),
        bad(f"{_RULE}.sources", []),
        bad(_SOURCE, {}),
        bad(_SOURCE, {"namespace": "a", "cidr": "10.0.0.0/8"}),
        bad(_SOURCE, {"serviceAccount": {"namespace": "a", "name": "b"}, "namespace": "a"}),
        bad(f"{_SOURCE}.namespace", "A"),
        bad(f"{_SOURCE}.namespace", "*"),
        bad(f"{_SOURCE}.namespace", ""),
        bad(_SOURCE, {"cidr": "10.1.0.0/8"}, at=f"{_SOURCE}.cidr"),
        bad(_SOURCE, {"serviceAccount": {"namespace": "a"}}, at=f"{_SOURCE}.serviceAccount.name"),
        bad(_SOURCE, {"serviceAccount": {"namespace": "a", "name": "b*"}}, at=f"{_SOURCE}.serviceAccount.name"),
        bad(_SOURCE, {"serviceAccount": "a/b"}, at=f"{_SOURCE}.serviceAccount"),
        # ports
        good({f"{_RULE}.networkAttributes": {"ports": [1, 65535]}}),
        bad(f"{_RULE}.networkAttributes", {}, at=f"{_RULE}.networkAttributes.ports"),
        bad(f"{_RULE}.networkAttributes.ports", []),
        bad(f"{_RULE}.networkAttributes.ports", [0], at=f"{_RULE}.networkAttributes.ports[0]"),
        bad(f"{_RULE}.networkAttributes.ports", [65536], at=f"{_RULE}.networkAttributes.ports[0]"),
        bad(f"{_RULE}.networkAttributes.ports", list(range(1, 34))),
        # http
        bad(_HTTP, {}),
        bad(f"{_HTTP}.methods", []),
        bad(f"{_HTTP}.paths", []),
        good({f"{_HTTP}.methods": ["GET", "M-SEARCH", "A" * 32]}),
        bad(f"{_HTTP}.methods", ["get"], at=f"{_HTTP}.methods[0]"),
        bad(f"{_HTTP}.methods", ["A" * 33], at=f"{_HTTP}.methods[0]"),
        bad(f"{_HTTP}.methods", ["GET"] * 17),
        bad(f"{_HTTP}.verbs", ["GET"]),
        # paths
        _path("Exact", "/"),
        _path("PathPrefix", "/a/b;v=1/%20/~x"),
        _path("Exact", "/" + "a" * 1023),
        _path("Exact", "/..a/.b/..."),
        _path("Exact", "/a/.%2e"),
        _path("Exact", "/it's"),
        _path("RegularExpression", "a|b"),
        *(
            _no_path("Exact", value)
            for value in (
                "", "a", "//", "/a//b", "/./", "/a/../b", "/a/..", "/.", "/%2f", "/a%2F", "/a#b", "/a?b", "/a b",
                "/\u00e9", "/%", "/%zz", "/%4", "/a\\b", "/%5c", "/%5C", "/%00", "/..;x/a", "/.;", "/%2e%2E;a",
                "/.%2e%3Ba", "/a\n", "/" + "a" * 1024, 5,
            )
        ),
        _no_path("PathPrefix", "a"),
        bad(f"{_HTTP}.paths", [{"value": "/"}], at=f"{_HTTP}.paths[0].type"),
        bad(f"{_HTTP}.paths", [{"type": "Prefix", "value": "/"}], at=f"{_HTTP}.paths[0].type"),
        # patterns
        _path("RegularExpression", "/(a+)+$"),
        _path("RegularExpression", r"/[[:alpha:]]\d{1,1000}(?i:x)\Q.\E"),
        _path("RegularExpression", "a" * 1024),
        *(
            _no_path("RegularExpression", value)
            for value in ("(", "a{1001}", r"(a)\1", "(?=a)", "[z-a]", "(a{1000}){1000}", "*", "\u00e9", "")
        ),
        good({f"{_HTTP}.headers": _header(value="a" * 4096)}),
        good({f"{_HTTP}.headers": _header(value="(", type="Exact")}),
        good({f"{_HTTP}.headers": _header(value="\u00e9.*", type="RegularExpression")}),
        bad(f"{_HTTP}.headers", _header(value="(", type="RegularExpression"), at=f"{_HTTP}.headers[0].value"),
        bad(f"{_HTTP}.headers", _header(value="a" * 1025, type="RegularExpression"), at=f"{_HTTP}.headers[0].value"),
        bad(f"{_HTTP}.headers", _header(value="a" * 4097), at=f"{_HTTP}.headers[0].value"),
        bad(f"{_HTTP}.headers", [{"name": "x"}], at=f"{_HTTP}.headers[0].value"),
        bad(f"{_HTTP}.headers", [{"name": "", "value": "a"}], at=f"{_HTTP}.headers[0].name"),
        bad(f"{_HTTP}.headers", [{"name": "x" * 257, "value": "a"}], at=f"{_HTTP}.headers[0].name"),
        # hosts
        good({f"{_HTTP}.hosts": ["a", "*.a.b", "a_b.c", "[::1]", "192.0.2.1", "[2001:db8:0::1]", "[::192.0.2.1]"]}),
        *(
            bad(f"{_HTTP}.hosts", [value], at=f"{_HTTP}.hosts[0]")
            for value in (
                "", "*", "A", "a:80", "a..b", "a.", ".a", "*a.b", "-a", "[::1", "[::g]", "[:::]", "[1.2.3.4]",
                "[::1]:80", "[::ffff:1.2.3.4]", "[::ffff:102:304]", "[1:2:3:4:5:6:7]", "*.[::1]", "[fe80::1%1]", "[]",
                "x" * 254,
            )
        ),
    ],
)
