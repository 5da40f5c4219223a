"""The CustomResourceDefinitions of our five kinds, written from the tables in nodeagent.config.schemas.

    python -m nodeagent.config.crds daemonset/crds

A test compares the files with what this would write.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodeagent.config.cel import Cel
from nodeagent.config.openapi import Node, cel_rules, structural
from nodeagent.config.schema import Fields
from nodeagent.config.schemas.authorization import AUTHORIZATION_POLICY
from nodeagent.config.schemas.descriptions import DESCRIPTIONS
from nodeagent.config.schemas.mesh_node import MESH_NODE
from nodeagent.config.schemas.mesh_tls import MESH_TLS
from nodeagent.config.schemas.rate_limits import RATE_LIMIT_POLICY
from nodeagent.config.schemas.traffic import TRAFFIC_POLICY
from nodeagent.config.yaml_documents import dump
from nodeagent.core.api_group import GROUP, VERSION

WRITTEN = "# Written by `python -m nodeagent.config.crds daemonset/crds` from nodeagent/config/schemas: edit those.\n"
_POLICY_LABEL = {"gateway.networking.k8s.io/policy": "Inherited"}  # GEP-713: more than one kind of target


@dataclass(frozen=True, slots=True)
class Column:
    """One that `kubectl get` prints; `wide`: only with -o wide."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    plural: str
    short: str
    schema: Fields
    columns: tuple[Column, ...]
    is_policy: bool = True

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{GROUP}"


def _condition(name: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{name}")].{field}'


_TARGETS = (Column("Target-Kind", ".spec.targetRefs[0].kind"), Column("Target", ".spec.targetRefs[0].name"))
_STATE = (
    Column("Accepted", _condition("Accepted")),
    Column("Programmed", _condition("Programmed")),
    Column("Reason", _condition("Accepted", "reason"), wide=True),
)
_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_MODE = Column("Mode", ".spec.mode")
KINDS = (
    Kind("TrafficPolicy", "trafficpolicies", "tpol", TRAFFIC_POLICY, (*_TARGETS, _MODE, *_STATE, _AGE)),
    Kind("RateLimitPolicy", "ratelimitpolicies", "rlpol", RATE_LIMIT_POLICY, (*_TARGETS, _MODE, *_STATE, _AGE)),
    Kind(
        "AuthorizationPolicy",
        "authorizationpolicies",
        "authz",
        AUTHORIZATION_POLICY,
        (
            Column("Action", ".spec.action"),
            Column("Level", ".spec.enforcementLevel"),
            *_TARGETS,
            _MODE,
            *_STATE,
            _AGE,
        ),
    ),
    Kind("MeshTLS", "meshtls", "mtls", MESH_TLS, (_MODE, *_TARGETS, *_STATE, _AGE)),
    Kind(
        "MeshNode",
        "meshnodes",
        "mnode",
        MESH_NODE,
        (
            Column("Node", ".metadata.name"),
            Column("Ready", _condition("Ready")),
            Column("Mode", ".status.mode"),
            Column("Kernel", ".status.kernel"),
            Column("Version", ".status.agentVersion"),
            Column("Sync", _condition("ConfigSynced", "reason")),
            Column("Pods", ".status.pods.enrolled", "integer", wide=True),
            Column("Failed", ".status.pods.failed", "integer", wide=True),
            Column("Workers", ".status.workers.ready", "integer", wide=True),
            _AGE,
        ),
        is_policy=False,
    ),
)


def files() -> dict[str, str]:
    """Every file of the directory that is written, by its name."""
    written = {f"{kind.plural}.yaml": dump(_definition(kind)) for kind in KINDS}
    written["admission.yaml"] = "---\n".join(dump(one) for one in _admission())
    return {name: WRITTEN + text for name, text in written.items()}


def _definition(kind: Kind) -> Node:
    metadata: Node = {"name": kind.crd_name}
    if kind.is_policy:
        metadata["labels"] = dict(_POLICY_LABEL)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.is_policy else "Cluster",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["nodeagent"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": _schema(kind)},
                }
            ],
        },
    }


def _column(column: Column) -> Node:
    made: Node = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return made | ({"priority": 1} if column.wide else {})


_EVERY = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}


def _schema(kind: Kind) -> Node:
    """What every object has is the API server's own business."""
    fields = {name: one for name, one in kind.schema.fields.items() if name not in _EVERY}
    required = tuple(name for name in kind.schema.required if name not in _EVERY)
    made = structural(Fields(fields, required, rules=kind.schema.rules), "", DESCRIPTIONS[kind.name])
    made["properties"] = _EVERY | made["properties"]
    return made


def _admission() -> Iterator[Node]:
    """Rules that need an object's namespace, of which CEL in a CRD sees nothing."""
    of: dict[Cel, list[str]] = {}
    for kind in KINDS:
        for cel in cel_rules(kind.schema.rules, kind.name, admission=True):
            of.setdefault(cel, []).append(kind.plural)
    for cel, plurals in of.items():
        yield _admission_policy(cel, plurals)
        yield {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": f"{cel.admission}.{GROUP}"},
            "spec": {"policyName": f"{cel.admission}.{GROUP}", "validationActions": ["Deny"]},
        }


def _admission_policy(cel: Cel, plurals: list[str]) -> Node:
    rule = {"apiGroups": [GROUP], "apiVersions": [VERSION], "operations": ["CREATE", "UPDATE"], "resources": plurals}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": f"{cel.admission}.{GROUP}"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": cel.rule, "message": cel.message, "reason": "Invalid"}],
        },
    }


def main(directory: str) -> None:
    for name, text in files().items():
        (Path(directory) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
