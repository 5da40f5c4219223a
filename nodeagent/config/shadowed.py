"""Matches of a route that never meet a request, because an earlier route of the same group has the very same.

Gateway API lets the older route win, and accepts both.  Who wrote the younger one wonders, so its condition says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nodeagent.config.resources import RouteMatch, RouteObject

Place = tuple[str, int, str]  # Service, port, group: the routes that compete for the same requests
Notes = Mapping[str, str]  # route -> what to say


class Shadows:
    """Looked for once per place; where the routes are the same as in `before`, not even that."""

    def __init__(self, before: Shadows | None = None) -> None:
        self._before = before._known if before else {}
        self._known: dict[Place, tuple[list[RouteObject], Notes]] = {}

    def note(self, place: Place, routes: list[RouteObject], route: str) -> str:
        """Of one of `routes`, which are all that there are, in their order of precedence; "" = nothing to say."""
        if len(routes) < 2:
            return ""
        if place not in self._known:
            last = self._before.get(place)
            self._known[place] = last if last and last[0] == routes else (routes, shadowed(routes))
        return self._known[place][1].get(route, "")


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
