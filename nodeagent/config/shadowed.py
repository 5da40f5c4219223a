"""Matches of a route that never meet a request, because an earlier route of the same group has the very same.

Gateway API lets the older route win, and accepts both.  Who wrote the younger one wonders, so its condition says it.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodeagent.config.resources import RouteMatch, RouteObject


def shadowed(routes: Sequence[RouteObject]) -> dict[str, str]:
    """Route -> which of its matches an earlier one has."""
    first: dict[RouteMatch, str] = {}
    found: dict[str, str] = {}
    for route in routes:
        matches = {
            match: (index, number)
            for index, rule in reversed(list(enumerate(route.rules)))
            for number, match in reversed(list(enumerate(rule.matches)))
            if not match.vague
        }
        taken = {match: at for match, at in matches.items() if match in first}
        if taken:
            match, at = min(taken.items(), key=lambda pair: pair[1])
            found[route.key] = _told(at, first[match], everything=len(taken) == len(matches))
        for match in matches:
            first.setdefault(match, route.key)
    return found


def _told(at: tuple[int, int], other: str, *, everything: bool) -> str:
    why = f"HTTPRoute {other} has the same match, and comes first by age or name"
    if everything:
        return f"no request meets this route: {why}"
    return f"no request meets rules[{at[0]}].matches[{at[1]}]: {why}"
