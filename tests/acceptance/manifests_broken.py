"""Broken manifests, one fault each: what a user may write by mistake, and what the answer has to name.

Every manifest is meant for the directory of a working configuration whose objects live in namespace
`shop`; it only speaks of objects called `broken-...` (and of `cart`, a Service that may exist), so the rest of
that configuration must stay in force.  `field` is "" only where no object can be read at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HUGE = 5 * 1024 * 1024


@dataclass(frozen=True)
class BrokenManifest:
    """`field` is part of the field path, `words` are parts of the message, `document` counts from 1; 0 = the file."""

    name: str
    content: bytes
    field: str
    words: Sequence[str]
    document: int = 1

    @property
    def file(self) -> str:
        return f"broken-{self.name}.yaml"


def _service(name: str, spec: str, field: str, *words: str) -> BrokenManifest:
    return _manifest(name, "v1", "Service", f"spec: {spec}", field, words)


def _route(name: str, spec: str, field: str, *words: str) -> BrokenManifest:
    return _manifest(
        name, "gateway.networking.k8s.io/v1", "HTTPRoute", f"spec: {{parentRefs: [{_CART}], {spec}}}", field, words
    )


def _policy(name: str, spec: str, field: str, *words: str) -> BrokenManifest:
    # AUDIT, and a target of its own: a policy that never was good refuses what it targets
    target = "targetRefs: [{kind: Service, name: broken-target}], action: AUDIT"
    return _manifest(name, _OURS, "AuthorizationPolicy", f"spec: {{{target}, {spec}}}", field, words)


def _manifest(name: str, version: str, kind: str, body: str, field: str, words: Sequence[str]) -> BrokenManifest:
    head = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{namespace: shop, name: broken-{name}}}\n"
    return BrokenManifest(name, (head + body + "\n").encode(), field, words)


def _bomb() -> bytes:
    """A billion laughs: each line holds the one before nine times."""
    lines = (f"{chr(n)}: &{chr(n)} [{', '.join([f'*{chr(n - 1)}'] * 9)}]\n" for n in range(98, 110))
    return ("a: &a [ha]\n" + "".join(lines)).encode()


_OURS = "mesh.nodeagent.dev/v1alpha1"
_CART = "{group: '', kind: Service, name: cart}"
_APPLICATION = "enforcementLevel: Application"
_GOOD = "apiVersion: v1\nkind: Namespace\nmetadata: {name: broken-good}\n"

BROKEN: tuple[BrokenManifest, ...] = (
    # wrong type
    _service("port-text", "{ports: [{port: eighty}]}", "spec.ports[0].port", "expected an integer", "eighty"),
    _service("ports-object", "{ports: {port: 80}}", "spec.ports", "expected a list", "an object"),
    _route("weight-fraction", "rules: [{backendRefs: [{name: a, port: 80, weight: 0.5}]}]",
           "spec.rules[0].backendRefs[0].weight", "expected an integer", "0.5"),
    _policy("rules-text", f"{_APPLICATION}, rules: all", "spec.rules", "expected a list", "all"),
    _manifest("truth-text", "v1", "Pod", "spec: {hostNetwork: maybe}", "spec.hostNetwork", ["expected a boolean"]),
    # unknown, missing and misspelt fields
    _route("unknown-field", "rules: [{backendRef: [{name: a, port: 80}]}]", "spec.rules[0].backendRef",
           "unknown field", 'did you mean "backendRefs"?'),
    _policy("unknown-case", f"enforcementlevel: Network, {_APPLICATION}", "spec.enforcementlevel",
            "unknown field", 'did you mean "enforcementLevel"?'),
    _policy("no-level", "rules: [{}]", "spec.enforcementLevel", "required value is missing"),
    _route("no-port", "rules: [{backendRefs: [{name: cart}]}]", "spec.rules[0].backendRefs[0].port", "needs a port"),
    BrokenManifest("no-name", b"apiVersion: v1\nkind: Service\nmetadata: {namespace: shop}\nspec: {}\n",
                   "metadata.name", ["required value is missing"]),
    BrokenManifest("no-kind", b"apiVersion: v1\nmetadata: {name: broken-x}\n", "kind", ["required value is missing"]),
    BrokenManifest("kind-misspelt", b"apiVersion: v1\nkind: Servise\nmetadata: {name: broken-x}\n", "kind",
                   ["no kind Servise in v1", 'did you mean "Service"?']),
    _manifest("old-version", "gateway.networking.k8s.io/v1alpha2", "HTTPRoute", "spec: {}", "apiVersion",
              ["expected gateway.networking.k8s.io/v1"]),
    BrokenManifest("later-kind", f"apiVersion: {_OURS}\nkind: MeshTLS\nmetadata: {{name: broken-x}}\n"
                   "spec: {mode: STRICT, targetRefs: [{kind: Service, name: cart}]}\n".encode(),
                   "kind", ["is not read by this release"]),
    # duplicates
    BrokenManifest("duplicate-object", f"{_GOOD}---\n{_GOOD}".encode(), "metadata.name", ["duplicate object"], 2),
    _service("duplicate-port-name", "{ports: [{name: http, port: 80}, {name: http, port: 81}]}", "spec.ports[1].name",
             "duplicate value"),
    _route("duplicate-rule-name", "rules: [{name: a}, {name: b}, {name: a, matches: [{method: GET}]}]",
           "spec.rules[2].name", "duplicate value"),
    _route("hostname-upper-case", "hostnames: [Cart], rules: [{}]", "spec.hostnames[0]", "lower case"),
    _policy("duplicate-target", f"{_APPLICATION}, action: AUDIT", "spec.action", "already set"),
    # values
    _policy("cidr-bits", "enforcementLevel: Network, rules: [{sources: [{cidr: 10.0.0.1/8}]}]",
            "spec.rules[0].sources[0].cidr", "CIDR", "host bits"),
    _policy("cidr-length", "enforcementLevel: Network, rules: [{sources: [{cidr: 10.0.0.0/33}]}]",
            "spec.rules[0].sources[0].cidr", "CIDR", "33"),
    _policy("cidr-mask", "enforcementLevel: Network, rules: [{sources: [{cidr: 10.0.0.0/255.0.0.0}]}]",
            "spec.rules[0].sources[0].cidr", "CIDR"),
    _policy("source-two-kinds", "enforcementLevel: Network, rules: [{sources: [{namespace: a, cidr: 10.0.0.0/8}]}]",
            "spec.rules[0].sources[0]", "exactly one of"),
    _policy("http-on-network", "enforcementLevel: Network, rules: [{http: {methods: [GET]}}]", "spec.rules[0].http",
            "only allowed with enforcementLevel Application"),
    _policy("http-empty", f"{_APPLICATION}, rules: [{{http: {{}}}}]", "spec.rules[0].http", "at least one of"),
    _policy("method-lower", f"{_APPLICATION}, rules: [{{http: {{methods: [get]}}}}]", "spec.rules[0].http.methods[0]",
            "upper case"),
    _policy("host-port", f"{_APPLICATION}, rules: [{{http: {{hosts: ['cart:80']}}}}]", "spec.rules[0].http.hosts[0]",
            "without a port"),
    _service("cluster-ip", "{clusterIP: 10.0.0.256, ports: [{port: 80}]}", "spec.clusterIP", "not an IP address"),
    _service("port-range", "{ports: [{port: 70000}]}", "spec.ports[0].port", "too large"),
    _route("weight-negative", "rules: [{backendRefs: [{name: a, port: 80, weight: -1}]}]",
           "spec.rules[0].backendRefs[0].weight", "too small"),
    _route("path-relative", "rules: [{matches: [{path: {type: Exact, value: cart}}]}]",
           "spec.rules[0].matches[0].path.value", "must start with a slash"),
    _manifest("address-family", "discovery.k8s.io/v1", "EndpointSlice",
              "addressType: IPv6\nendpoints: [{addresses: [198.18.0.9]}]", "endpoints[0].addresses[0]", ["IPv6"]),
    BrokenManifest("time", b"apiVersion: v1\nkind: Namespace\nmetadata: {name: broken-x, creationTimestamp: now}\n",
                   "metadata.creationTimestamp", ["RFC 3339"]),
    # expressions
    _policy("regex-20-kb", f"{_APPLICATION}, rules: [{{http: {{paths: "
            f"[{{type: RegularExpression, value: '{'(a|b)' * 4096}'}}]}}}}]",
            "spec.rules[0].http.paths[0].value", "20480 characters", "at most 1024"),
    _route("regex-header-4-kb", "rules: [{matches: [{headers: [{type: RegularExpression, name: x, value: '"
           + "(a|b)" * 800 + "'}]}]}]", "spec.rules[0].matches[0].headers[0].value", "at most 1024"),
    _route("regex-backreference", r"rules: [{matches: [{path: {type: RegularExpression, value: '/(a)\1'}}]}]",
           "spec.rules[0].matches[0].path.value", "not a valid RE2 expression"),
    _route("regex-explodes", "rules: [{matches: [{path: {type: RegularExpression, value: '/((a{999}){999}){999}'}}]}]",
           "spec.rules[0].matches[0].path.value", "not a valid RE2 expression"),
    _route("filter", "rules: [{filters: [{type: URLRewrite}]}]",
           "spec.rules[0].filters[0].urlRewrite", "required value is missing"),
    _route("retry", "rules: [{retry: {tries: 2}}]", "spec.rules[0].retry", "unknown field"),
    # YAML
    BrokenManifest("yaml-bracket", _GOOD.replace("}", "").encode(), "", ["not valid YAML"]),
    BrokenManifest("yaml-tab", b"kind: Namespace\nmetadata:\n\tname: broken-x\n", "", ["not valid YAML"]),
    BrokenManifest("yaml-second", f"{_GOOD}---\nkind: [\n".encode(), "", ["not valid YAML"], 2),
    BrokenManifest("yaml-key-twice", b"apiVersion: v1\nkind: Namespace\nmetadata: {name: broken-x, name: broken-y}\n",
                   "metadata.name", ["already set"]),
    BrokenManifest("yaml-tag", b"apiVersion: v1\nkind: Namespace\nmetadata: {name: !python/name:os.system x}\n",
                   "metadata.name", ["tag", "not allowed"]),
    BrokenManifest("yaml-bomb", _bomb(), "", ["more than 500000 values"]),
    # files
    BrokenManifest("huge", _GOOD.encode() + b"# " + b"x" * HUGE, "", ["longer than 4194304 bytes"], 0),
    BrokenManifest("empty", b"", "", ["holds no object"], 0),
    BrokenManifest("binary", b"\x89PNG\r\n\x1a\n\x00\xff", "", ["not UTF-8"], 0),
    BrokenManifest("no-object", b"- just\n- a list\n", "", ["expected a Kubernetes object"]),
)
