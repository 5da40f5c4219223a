"""Builders of the routes that conformance tests configure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.conformance.cases import MESH
from tests.testbed.manifests import Document


def route(
    name: str, parent: str, *rules: Document, port: int | None = None, namespace: str = MESH, kind: str = "HTTPRoute"
) -> Document:
    """A route of `namespace` for the Service `parent` of the namespace MESH, for all its ports without `port`."""
    ref: Document = {"group": "", "kind": "Service", "name": parent}
    if namespace != MESH:
        ref["namespace"] = MESH
    if port is not None:
        ref["port"] = port
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"parentRefs": [ref], "rules": list(rules)},
    }


def rule(*parts: Document, to: Document | tuple[Document, ...] = (), name: str = "") -> Document:
    """A rule; `parts` are its matches (without a `type` of their own) and filters, `to` its backendRefs."""
    backends = list(to) if isinstance(to, tuple) else [to]
    fields: Document = {
        "name": name,
        "matches": [part for part in parts if "type" not in part],
        "filters": [part for part in parts if "type" in part],
        "backendRefs": backends,
    }
    return {key: value for key, value in fields.items() if value}


def backend(service: str, port: int, *filters: Document, weight: int | None = None, namespace: str = "") -> Document:
    fields: Document = {"name": service, "namespace": namespace, "port": port, "filters": list(filters)}
    return {key: value for key, value in {**fields, "weight": weight}.items() if value not in ("", [], None)}


# -- matches ----------------------------------------------------------------------------------------------
def match(
    prefix: str = "", exact: str = "", headers: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None
) -> Document:
    found: Document = {}
    if prefix or exact:
        found["path"] = {"type": "PathPrefix" if prefix else "Exact", "value": prefix or exact}
    if headers:
        found["headers"] = _pairs(headers)
    if query:
        found["queryParams"] = _pairs(query)
    return found


# -- filters ----------------------------------------------------------------------------------------------
def request_headers(**changes: Any) -> Document:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": _modifier(changes)}


def response_headers(**changes: Any) -> Document:
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": _modifier(changes)}


def redirect(status: int | None = None, path: Document | None = None, **fields: Any) -> Document:
    """`fields`: hostname, port, scheme."""
    if status is not None:
        fields["statusCode"] = status
    if path is not None:
        fields["path"] = path
    return {"type": "RequestRedirect", "requestRedirect": fields}


def rewrite(path: Document) -> Document:
    return {"type": "URLRewrite", "urlRewrite": {"path": path}}


def full(path: str) -> Document:
    return {"type": "ReplaceFullPath", "replaceFullPath": path}


def in_place_of_prefix(path: str) -> Document:
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": path}


def _modifier(changes: Mapping[str, Any]) -> Document:
    """`set` and `add` are mappings, `remove` is a sequence of names."""
    return {word: list(what) if word == "remove" else _pairs(what) for word, what in changes.items()}


def _pairs(values: Mapping[str, str]) -> list[Document]:
    return [{"name": name, "value": value} for name, value in values.items()]
