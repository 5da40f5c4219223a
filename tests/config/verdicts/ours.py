"""What the manifest directory says of an object: the errors of its schema, and the values that it will not apply."""

from __future__ import annotations

from typing import Any

from nodeagent.config.problems import FieldError, field_text
from nodeagent.config.rule_faults import backend_fault, rule_fault
from nodeagent.config.schema import violations
from nodeagent.config.schemas import NOT_READ, SCHEMAS
from nodeagent.config.yaml_documents import dump, read_documents

KNOWN = SCHEMAS | NOT_READ


def refusals(value: dict[str, Any]) -> list[FieldError]:
    """Errors for which the API server would refuse the object, too."""
    (document,) = read_documents(dump(value).encode())
    found = violations(KNOWN[value["apiVersion"], value["kind"]], document.value)
    return [error for error in found if not error.beyond]


def named_fields(value: dict[str, Any]) -> list[str]:
    return [field_text(error.path) for error in refusals(value)]


def dropped_field(value: dict[str, Any]) -> str:
    """The first field of an HTTPRoute for which one of its rules, or a backendRef, is not applied; or ""."""
    for number, rule in enumerate(value["spec"].get("rules") or []):
        faults = [rule_fault(rule)]
        faults += [backend_fault(ref, ("backendRefs", at)) for at, ref in enumerate(rule.get("backendRefs") or [])]
        for fault in faults:
            if fault is not None:
                return field_text(("spec", "rules", number, *fault.field))
    return ""
