"""HTTPRoutes and the verdict of an API server with Gateway API 1.6's CRD, of the standard or experimental channel."""

from __future__ import annotations

from typing import Any

from tests.config.verdicts.cases import GONE, Case, Change, Object, bad, cases, good

BASE: Object = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "cart", "namespace": "verdicts"},
    "spec": {
        "parentRefs": [{"group": "", "kind": "Service", "name": "cart"}],
        "rules": [
            {
                "name": "first",
                "matches": [{"path": {"type": "PathPrefix", "value": "/a"}}],
                "backendRefs": [{"name": "cart", "port": 80}],
            }
        ],
    },
}
_PARENT = "spec.parentRefs[0]"
_RULE = "spec.rules[0]"
_MATCH = f"{_RULE}.matches[0]"
_BACKEND = f"{_RULE}.backendRefs[0]"
_FILTER = f"{_RULE}.filters[0]"
_SESSION = f"{_RULE}.sessionPersistence"
_REWRITE = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}


def is_experimental(value: Object) -> bool:
    """Has a field that the standard channel does not know."""
    spec = value.get("spec")
    if value["kind"] != "HTTPRoute" or not isinstance(spec, dict):
        return False
    rules = spec.get("rules")
    rules = [rule for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []
    return "useDefaultGateways" in spec or any({"retry", "sessionPersistence"} & rule.keys() for rule in rules)


def _paths(name: str, **path: Any) -> dict[str, Any]:
    kind = {"urlRewrite": "URLRewrite", "requestRedirect": "RequestRedirect"}[name]
    return {"type": kind, name: {"path": path}}


def _modifier(**lists: Any) -> dict[str, Any]:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": lists}


def _cors(**fields: Any) -> dict[str, Any]:
    return {"type": "CORS", "cors": fields}


def _mirror(**fields: Any) -> dict[str, Any]:
    return {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "a", "port": 80}, **fields}}


def _filter(value: Any) -> Change:
    return good({_FILTER: value})


def _no_filter(value: Any, at: str, *, newer: bool = False) -> Change:
    return bad(_FILTER, value, at=f"{_FILTER}.{at}" if at else f"{_RULE}.filters", newer=newer)


def _rules(*counts: int) -> list[Object]:
    """One rule for each count of matches."""
    return [
        {"matches": [{"path": {"value": f"/{rule}/{number}"}} for number in range(count)]}
        for rule, count in enumerate(counts)
    ]


CASES: list[Case] = cases(
    BASE,
    [
        # parents, hostnames
        good({"spec.parentRefs": GONE}),
        good({f"{_PARENT}": {"name": "gateway"}}),
        good({"spec.parentRefs": [{"name": "a", "port": port} for port in range(1, 33)]}, channel="experimental"),
        good({"spec.parentRefs": [{"name": f"a{number}"} for number in range(32)]}),
        good({"spec.parentRefs": [{"name": "a", "sectionName": "x"}, {"name": "a", "sectionName": "y", "port": 80}]},
             channel="standard"),
        bad("spec.parentRefs", [{"name": "a", "sectionName": "x"}] * 2),
        bad("spec.parentRefs", [{"name": "a", "port": port} for port in range(1, 34)]),
        bad(f"{_PARENT}.name", GONE),
        bad(f"{_PARENT}.name", ""),
        bad(f"{_PARENT}.group", "A"),
        bad(f"{_PARENT}.kind", "a_b"),
        bad(f"{_PARENT}.namespace", "a.b"),
        bad(f"{_PARENT}.port", 0),
        bad(f"{_PARENT}.port", "http"),
        bad(f"{_PARENT}.sectionName", "A"),
        bad(f"{_PARENT}.weight", 1),
        bad("spec.parentRefs", [{"name": "a"}, {"name": "a"}]),
        bad("spec.parentRefs", [{"name": "a"}, {"name": "a", "port": 80}]),
        bad("spec.parentRefs", [{"name": "a", "sectionName": "x"}, {"name": "a", "port": 80}]),
        bad("spec.parentRefs", [{"name": "a", "port": 80}, {"name": "a", "kind": "Gateway", "port": 80}]),
        good({"spec.parentRefs": [{"name": "a"}, {"name": "a", "namespace": "other"}, {"name": "a", "kind": "B"}]}),
        good({"spec.parentRefs": [{"name": "a", "port": 1, "sectionName": s} for s in ("x", "y")]}),
        good({"spec.hostnames": ["a.example", "*.example"]}),
        bad("spec.hostnames", ["*"], at="spec.hostnames[0]"),
        bad("spec.hostnames", ["A"], at="spec.hostnames[0]"),
        bad("spec.hostnames", ["a:80"], at="spec.hostnames[0]"),
        bad("spec.hostnames", ["a"] * 17),
        good({"spec.useDefaultGateways": "All"}),
        bad("spec.hostNames", []),
        # rules
        good({"spec.rules": GONE}),
        bad("spec.rules", []),
        good({"spec.rules": [{}] * 16}),
        bad("spec.rules", [{}] * 17),
        good({"spec.rules": _rules(64, 64)}),
        bad("spec.rules", _rules(64, 64, 1)),
        bad("spec.rules", [*_rules(64, 63), {}, {}]),
        good({"spec.rules": [*_rules(64, 64), {"matches": []}]}),
        bad("spec.rules", _rules(65), at="spec.rules[0].matches"),
        good({"spec.rules": [{"name": "a"}, {"name": "a"}]}, channel="standard"),
        bad(f"{_RULE}.name", "A"),
        bad(f"{_RULE}.backend", []),
        # matches
        good({_MATCH: {}}),
        good({_MATCH: {"method": "GET", "headers": [{"name": "x", "value": "1"}, {"name": "X", "value": "1"}]}}),
        bad(f"{_MATCH}.method", "BREW", newer=True),
        bad(f"{_MATCH}.method", ""),
        bad(f"{_MATCH}.path.type", "Glob", newer=True),
        *(
            bad(f"{_MATCH}.path.value", value)
            for value in (
                "a", "", "//", "/a/./b", "/../", "/%2f", "/%2F", "/#", "/..", "/.", "/a b", "/\u00e9", "/%zz", "/?", 5,
                "/" + "a" * 1024,
            )
        ),
        *(good({f"{_MATCH}.path.value": value}) for value in ("/", "/a/", "/%20", "/..a", "/a'b", "/" + "a" * 1023)),
        good({f"{_MATCH}.path": {"type": "RegularExpression", "value": "a"}}),
        *(
            bad(f"{_MATCH}.headers", [{"name": "x", "value": value}], at=f"{_MATCH}.headers[0].value")
            for value in ("", "a" * 4097, 1)
        ),
        *(
            good({f"{_MATCH}.headers": [{"name": "x", "value": value}]}, channel="standard")
            for value in (" a", "a ", "a  b", "\u00e9", "a\n")
        ),
        *(good({f"{_MATCH}.headers": [{"name": "x", "value": value}]}) for value in ("a b", "a\tb", "a" * 4096)),
        bad(f"{_MATCH}.headers", [{"name": "x", "value": "1"}] * 2, at=f"{_MATCH}.headers[1]"),
        bad(f"{_MATCH}.headers", [{"name": "x y", "value": "1"}], at=f"{_MATCH}.headers[0].name"),
        bad(f"{_MATCH}.headers", [{"name": "x"}], at=f"{_MATCH}.headers[0].value"),
        bad(f"{_MATCH}.headers", [{"name": f"x{number}", "value": "1"} for number in range(17)]),
        bad(f"{_MATCH}.headers", [{"name": "x", "value": "1", "type": "Suffix"}],
            at=f"{_MATCH}.headers[0].type", newer=True),
        good({f"{_MATCH}.queryParams": [{"name": "x", "value": "\u00e9  ", "type": "RegularExpression"}]}),
        bad(f"{_MATCH}.queryParams", [{"name": "x", "value": "a" * 1025}], at=f"{_MATCH}.queryParams[0].value"),
        # backends
        good({_BACKEND: {"group": "a.example", "kind": "Other", "name": "a"}}),
        good({f"{_BACKEND}.weight": 1_000_000, f"{_BACKEND}.namespace": "other"}),
        bad(f"{_BACKEND}.weight", 1_000_001),
        bad(f"{_BACKEND}.weight", -1),
        bad(f"{_BACKEND}.port", GONE),
        bad(f"{_BACKEND}.port", 65536),
        bad(f"{_RULE}.backendRefs", [{"name": "a", "port": 80}] * 17),
        bad(f"{_BACKEND}.filters", [_modifier(add=[{"name": "x"}])],
            at=f"{_BACKEND}.filters[0].requestHeaderModifier.add[0].value"),
        # header modifiers
        _filter(_modifier(set=[{"name": "x", "value": "a b"}], add=[{"name": "y", "value": "b"}], remove=["z", "w"])),
        _filter(_modifier(set=[{"name": "Host", "value": "a"}])),
        _filter(_modifier(remove=["Connection", "not a name", ""])),
        _filter(_modifier()),
        good({_FILTER: _modifier(set=[{"name": "x", "value": "\u00e9"}])}, channel="standard"),
        good({_FILTER: _modifier(set=[{"name": "x", "value": "a\x01"}])}, channel="standard"),
        _no_filter(_modifier(add=[{"name": "x:", "value": "a"}]), "requestHeaderModifier.add[0].name"),
        _no_filter(_modifier(add=[{"name": "x", "value": "a"}] * 2), "requestHeaderModifier.add[1]"),
        _no_filter(_modifier(remove=["x", "x"]), "requestHeaderModifier.remove[1]"),
        _no_filter(_modifier(remove=[f"x{number}" for number in range(17)]), "requestHeaderModifier.remove"),
        _no_filter(_modifier(remove=[1]), "requestHeaderModifier.remove[0]"),
        # redirects and rewrites
        good({_FILTER: _paths("requestRedirect", type="ReplaceFullPath", replaceFullPath="/b"),
              f"{_RULE}.backendRefs": []}),
        bad(_FILTER, _paths("requestRedirect", type="ReplaceFullPath", replaceFullPath="/b"),
            at=f"{_RULE}.backendRefs"),
        _filter(_REWRITE),
        _filter(_paths("urlRewrite", type="ReplaceFullPath", replaceFullPath="no path")),
        _filter(_paths("urlRewrite", type="ReplaceFullPath", replaceFullPath="")),
        _no_filter(_paths("urlRewrite", type="ReplaceFullPath"), "urlRewrite.path.replaceFullPath"),
        _no_filter(_paths("urlRewrite", type="ReplacePrefixMatch", replaceFullPath="/"), "urlRewrite.path"),
        _no_filter(_paths("urlRewrite", replaceFullPath="/"), "urlRewrite.path.type"),
        _no_filter(_paths("urlRewrite", type="ReplaceFullPath", replaceFullPath="/" + "a" * 1024),
                   "urlRewrite.path.replaceFullPath"),
        _no_filter(_paths("urlRewrite", type="ReplaceSuffix"), "urlRewrite.path.type", newer=True),
        _no_filter({"type": "URLRewrite", "urlRewrite": {"hostname": "*.a"}}, "urlRewrite.hostname"),
        _no_filter({"type": "RequestRedirect", "requestRedirect": {"port": 0}}, "requestRedirect.port"),
        bad(_FILTER, {"type": "RequestRedirect", "requestRedirect": {"statusCode": 305}},
            at=f"{_FILTER}.requestRedirect.statusCode", more={f"{_RULE}.backendRefs": GONE}, newer=True),
        bad(_FILTER, {"type": "RequestRedirect", "requestRedirect": {"scheme": "ws"}},
            at=f"{_FILTER}.requestRedirect.scheme", more={f"{_RULE}.backendRefs": GONE}, newer=True),
        bad(_FILTER, _REWRITE, at=_RULE, more={f"{_MATCH}.path.type": "Exact"}),
        bad(_FILTER, _REWRITE, at=_RULE, more={f"{_RULE}.matches[1]": {}}),
        bad(_FILTER, _REWRITE, at=_RULE, more={f"{_RULE}.matches": []}),
        good({_FILTER: _REWRITE, f"{_RULE}.matches": GONE}),
        good({_FILTER: _REWRITE, f"{_RULE}.matches": [{"method": "GET"}]}),
        bad(f"{_BACKEND}.filters", [_REWRITE], at=_RULE, more={f"{_MATCH}.path.type": "Exact"}),
        good({f"{_RULE}.backendRefs": [{"name": name, "port": 80, "filters": [_REWRITE]} for name in ("a", "b")],
              f"{_MATCH}.path.type": "Exact"}),  # the API server counts one such backend only
        # mirrors
        _filter(_mirror()),
        _filter(_mirror(percent=100)),
        _filter(_mirror(fraction={"numerator": 100})),
        _filter(_mirror(fraction={"numerator": 0, "denominator": 1})),
        _no_filter(_mirror(percent=101), "requestMirror.percent"),
        _no_filter(_mirror(percent=1, fraction={"numerator": 1}), "requestMirror"),
        _no_filter(_mirror(fraction={"numerator": 101}), "requestMirror.fraction"),
        _no_filter(_mirror(fraction={"numerator": 1, "denominator": 0}), "requestMirror.fraction.denominator"),
        _no_filter(_mirror(backendRef={"name": "a"}), "requestMirror.backendRef"),
        _no_filter(_mirror(fraction={"numerator": 2**31}), "requestMirror.fraction.numerator"),
        # CORS
        _filter(_cors(allowOrigins=["https://a.example:8443", "http://*", "https://*.A"], allowCredentials=True)),
        _filter(_cors(allowOrigins=["*"], allowMethods=["*"], allowHeaders=["*"], exposeHeaders=["*", "x"], maxAge=1)),
        _filter(_cors(allowOrigins=["https://a:99999"])),
        *(
            _no_filter(_cors(allowOrigins=[origin]), "cors.allowOrigins[0]")
            for origin in ("a", "ftp://a", "https://a/", "https://", "https://a.*", "https://a:", "null", "https://[::1]")
        ),
        _no_filter(_cors(allowOrigins=["*", "https://a"]), "cors.allowOrigins"),
        _no_filter(_cors(allowOrigins=["https://a"] * 2), "cors.allowOrigins[1]"),
        _no_filter(_cors(allowMethods=["GET", "*"]), "cors.allowMethods"),
        _no_filter(_cors(allowMethods=["GET", "GET"]), "cors.allowMethods[1]"),
        _no_filter(_cors(allowMethods=["BREW"]), "cors.allowMethods[0]", newer=True),
        _no_filter(_cors(allowHeaders=["x y"]), "cors.allowHeaders[0]"),
        _no_filter(_cors(maxAge=0), "cors.maxAge"),
        _no_filter(_cors(maxAge=2**31), "cors.maxAge"),
        # which filters, together
        _no_filter({"type": "Compression"}, "type", newer=True),
        _no_filter({"type": "CORS"}, ""),
        _no_filter({}, "type"),
        _no_filter({"type": "CORS", "cors": {}, "urlRewrite": {}}, ""),
        _no_filter({"type": "CORS", "cors": {}, "corss": {}}, "corss"),
        _no_filter({"type": "CORS", "cors": {}, "corss": None}, "corss"),
        _filter({"type": "CORS", "cors": {}, "urlRewrite": None}),
        bad(_FILTER, _paths("urlRewrite", type="ReplacePrefixMatch", replacePrefixMatch="no path"), at=_RULE,
            more={f"{_MATCH}.path.type": "Exact"}),
        bad(f"{_RULE}.filters", [_cors(), _cors()]),
        bad(f"{_RULE}.filters", [_REWRITE, {"type": "RequestRedirect", "requestRedirect": {}}],
            more={f"{_RULE}.backendRefs": GONE}),
        good({f"{_RULE}.filters": [_mirror()] * 16}),
        bad(f"{_RULE}.filters", [_mirror()] * 17),
        _filter({"type": "ExtensionRef", "extensionRef": {"group": "a.b", "kind": "C", "name": "d"}}),
        _no_filter({"type": "ExtensionRef", "extensionRef": {"kind": "C", "name": "d"}}, "extensionRef.group"),
        # timeouts, retries, sessions
        good({f"{_RULE}.timeouts": {"request": "1s", "backendRequest": "1000ms"}}),
        good({f"{_RULE}.timeouts": {"request": "0s", "backendRequest": "1m"}}),
        bad(f"{_RULE}.timeouts", {"request": "1s", "backendRequest": "2s"}),
        bad(f"{_RULE}.timeouts.request", "1.5s"),
        bad(f"{_RULE}.timeouts.idle", "1s"),
        good({f"{_RULE}.retry": {"attempts": 1000, "codes": [400, 599], "backoff": "1h"}}),
        bad(f"{_RULE}.retry.attempts", 0),
        bad(f"{_RULE}.retry.codes", [399], at=f"{_RULE}.retry.codes[0]"),
        bad(f"{_RULE}.retry.codes", [503, 503], at=f"{_RULE}.retry.codes[1]"),
        bad(f"{_RULE}.retry.backoff", "0.1s"),
        good({_SESSION: {"sessionName": "a b", "type": "Header"}}),
        good({_SESSION: {"sessionName": "", "cookieConfig": {"lifetimeType": "Permanent"}, "absoluteTimeout": "0s"}}),
        bad(_SESSION, {"sessionName": "a" * 129}, at=f"{_SESSION}.sessionName"),
        bad(_SESSION, {"cookieConfig": {"lifetimeType": "Permanent"}}),
        bad(_SESSION, {"cookieConfig": {}, "type": "Header"}),
        bad(_SESSION, {"type": "Url"}, at=f"{_SESSION}.type", newer=True),
    ],
)
