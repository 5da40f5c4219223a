"""Matches of a route that never meet a request, because an earlier route of the same group has the very same.

Gateway API lets the older route win, and accepts both.  Who wrote the younger one wonders, so its condition says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nodeagent.config.resources import RouteMatch, RouteObject

ServicePort = tuple[str, int]
Groups = Mapping[str, list[RouteObject]]  # those of one group compete for the same requests
Notes = dict[tuple[str, str], str]  # route, Service -> what to say


class Shadows:
    """Where the routes are the same as in `before`, nothing is compared again."""

    def __init__(self, before: Shadows | None = None) -> None:
        self._before = before._known if before else {}
        self._known: dict[tuple[ServicePort, str], tuple[list[RouteObject], dict[str, str]]] = {}

    def notes(self, attached: Iterable[tuple[ServicePort, Groups]]) -> Notes:
        """`attached`: all routes of each port, in their order of precedence."""
        found: Notes = {}
        for at, groups in attached:
            for group, routes in groups.items():
                if len(routes) > 1:
                    for route, note in self._of_group((at, group), routes).items():
                        found.setdefault((route, at[0]), note)
        return found

    def _of_group(self, place: tuple[ServicePort, str], routes: list[RouteObject]) -> dict[str, str]:
        last = self._before.get(place)
        self._known[place] = last = last if last and last[0] == routes else (routes, shadowed(routes))
        return last[1]


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
