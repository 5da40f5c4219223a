"""What a rule of a route, or one of its backends, does to messages or with them: lines for people."""

from __future__ import annotations

from nodeagent.core.cors import described as cors_described
from nodeagent.core.filters import described as filters_described
from nodeagent.core.mirrors import described as mirrors_described
from nodeagent.core.model import Backend, Rule


def filters_text(owner: Rule | Backend) -> list[str]:
    """One line for each filter, mirrors and CORS too."""
    cors = [cors_described(owner.cors)] if owner.cors is not None else []
    return filters_described(owner.filters) + mirrors_described(owner.mirrors) + cors
