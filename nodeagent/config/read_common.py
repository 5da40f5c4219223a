"""What the readers of several kinds share: the age of an object, and what a policy targets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nodeagent.config.resources import TargetRef

YOUNGEST = "~"
"""In place of no creation time, where objects are put in order: after every date."""


def creation_time(metadata: dict[str, Any]) -> str:
    """RFC 3339 in UTC, so that text order is time order; "" when the manifest has none."""
    given = metadata.get("creationTimestamp")
    return datetime.fromisoformat(given).astimezone(UTC).isoformat() if given else ""


def target_refs(spec: dict[str, Any]) -> tuple[TargetRef, ...]:
    return tuple(
        TargetRef(target["kind"], target["name"], target.get("sectionName") or "") for target in spec["targetRefs"]
    )
