"""How many regular expressions the routes of one Service port may ask a worker to try on a request.

Other matches are found by an index (`core.route_index`); patterns are tried one after the other, about 0.7 us each.

A route over the cap is not attached, as Gateway API has it for what is not accepted: nothing changes for calls that
were served before it came.  It does not answer 500, as a rule with an unknown value does: which requests would get
those only its patterns could tell, and without them it would take all that no other rule takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodeagent.config.resources import RouteObject
from nodeagent.core.model import PathKind

MAX_PATTERNS = 128
"""Per Service port, and per namespace that has routes of its own there."""

Group = tuple[str, int, str]  # Service, its port, "" or the callers' namespace


def count_patterns(route: RouteObject) -> int:
    """RegularExpression matches of path, header and query parameter in all rules of the route."""
    matches = [match for rule in route.rules for match in rule.matches]
    paths = sum(match.path_kind is PathKind.REGEX for match in matches)
    return paths + sum(one.regex for match in matches for one in (*match.headers, *match.query))


class PatternRoom:
    """Counts the patterns of the routes that were admitted; ask for the oldest route first."""

    def __init__(self) -> None:
        self._taken: dict[Group, dict[str, int]] = {}  # by route

    def admit(self, route: RouteObject, groups: Sequence[Group]) -> str:
        """Count the route in every group, or in none; then this is why."""
        count = count_patterns(route)
        for group in groups if count else ():
            others = sum(taken for key, taken in self._taken.get(group, {}).items() if key != route.key)
            if others + count > MAX_PATTERNS:
                return (
                    f"not attached, and calls are served as if the route was not there: it has {count} "
                    f"RegularExpression matches, and older routes of Service {group[0]}:{group[1]} have {others}; a "
                    f"request may have to try each, so they may have {MAX_PATTERNS}. Use Exact or PathPrefix matches, "
                    f"or split the Service"
                )
        for group in groups if count else ():
            self._taken.setdefault(group, {})[route.key] = count
        return ""
