"""HTTPRoutes joined to Service ports: who they apply to, in which order, and what is said about them.

A route in the Service's own namespace is a producer route (every caller); one in another namespace
is a consumer route: for callers of that namespace it replaces the producer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from nodeagent.config.conditions import ACCEPTED, FALSE, TRUE, Condition
from nodeagent.config.patterns import PatternRoom, count_patterns
from nodeagent.config.read_common import YOUNGEST
from nodeagent.config.resources import UNSUPPORTED_VALUE, RouteObject
from nodeagent.config.rules import Placed, RuleBuilder, Surroundings
from nodeagent.config.services import FAMILIES, ServicePortKey
from nodeagent.config.shadowed import shadowed
from nodeagent.config.standing import Said, Standings, named_services, said
from nodeagent.core.differences import unequal
from nodeagent.core.model import Rule

KIND = "HTTPRoute"
Place = tuple[ServicePortKey, str]  # of routes that compete: a Service port, and PRODUCER or a namespace


@dataclass(frozen=True, slots=True)
class RouteChanges:
    """`services`: whose ports may have other rules; `conditions` by route, () = it is gone; `routes` are others."""

    services: set[str]
    conditions: dict[str, tuple[Condition, ...]]
    routes: set[str]


class RouteIndex:
    """Routes by Service port, kept up to date in place.

    What is made of a route is made again when the route is another one, or when a Service that it names is.
    """

    def __init__(self) -> None:
        self._routes: Mapping[str, RouteObject] = {}
        self._naming: dict[str, set[str]] = {}  # Service -> routes that name it
        self._attached: dict[ServicePortKey, dict[str, list[RouteObject]]] = {}  # by group, the oldest first
        self._places: dict[str, tuple[Place, ...]] = {}  # of a route: where it is attached
        self._told: dict[str, list[tuple[Said, int]]] = {}  # of a route, with positions in spec.parentRefs
        self._rules: dict[tuple[str, int], list[Placed]] = {}  # of a route, for an address family
        self._with_patterns: set[str] = set()
        self._patterns = PatternRoom()
        self._shadowed: dict[Place, dict[str, str]] = {}  # where routes have the same matches: route -> what to say
        self._builder: RuleBuilder | None = None

    def update(
        self,
        routes: Mapping[str, RouteObject],
        around: Surroundings,
        services: AbstractSet[str],
        treated: AbstractSet[str],
        generation: int,
    ) -> RouteChanges:
        """`services` may be others than before; to routes that are `treated` other policies may apply."""
        self._builder = RuleBuilder(around)
        changed = unequal(self._routes, routes)
        again = changed | {key for service in services for key in self._naming.get(service, ())}
        for key in again | treated:
            for family in FAMILIES:
                self._rules.pop((key, family), None)
        touched = {place for key in treated for place in self._places.get(key, ())}
        again |= self._rename(changed, routes, again)
        places = self._detach(again)
        places |= self._attach([routes[key] for key in again if key in routes], Standings(around.topology))
        again |= self._compare(places)
        told = {key: self._conditions(key, generation) for key in again}
        return RouteChanges({at[0] for at, _ in places | touched}, told, changed)

    def groups(self, service: str, port: int, family: int) -> dict[str, tuple[Rule, ...]]:
        """Group -> rules in order of precedence, for callers of one address family."""
        attached = self._attached.get((service, port))
        if attached is None:
            return {}
        return {group: self._sorted(routes, family) for group, routes in attached.items()}

    def _sorted(self, routes: list[RouteObject], family: int) -> tuple[Rule, ...]:
        pairs = [pair for route in routes for pair in self._rules_of(route, family)]
        return tuple(rule for _, rule in sorted(pairs, key=lambda pair: pair[0]))

    def _rules_of(self, route: RouteObject, family: int) -> list[Placed]:
        found = self._rules.get((route.key, family))
        if found is None:
            if self._builder is None:
                raise RuntimeError("no route was attached: `update` comes before any rule is asked for")
            found = self._rules[route.key, family] = self._builder.rules(route, family)
        return found

    # ---- keeping it up to date ----

    def _rename(self, changed: Iterable[str], routes: Mapping[str, RouteObject], again: AbstractSet[str]) -> set[str]:
        """Which routes name what, and have patterns.  Returns those that have to ask for room for patterns again."""
        asking = not self._with_patterns.isdisjoint(again)
        for key in changed:
            old, new = self._routes.get(key), routes.get(key)
            for service in named_services(old) if old else ():
                self._naming[service].discard(key)
                if not self._naming[service]:
                    del self._naming[service]
            for service in named_services(new) if new else ():
                self._naming.setdefault(service, set()).add(key)
            self._with_patterns.discard(key)
            if new and count_patterns(new):
                self._with_patterns.add(key)
                asking = True
        self._routes = routes
        if not asking:
            return set()
        self._patterns = PatternRoom()  # the older one comes first, so that nobody's place depends on history
        return self._with_patterns

    def _detach(self, keys: AbstractSet[str]) -> set[Place]:
        """Where they were."""
        places = {place for key in keys for place in self._places.pop(key, ())}
        for place in places:
            self._set(place, [route for route in self._attached[place[0]][place[1]] if route.key not in keys])
        for key in keys:
            self._told.pop(key, None)
        return places

    def _attach(self, routes: list[RouteObject], standings: Standings) -> set[Place]:
        """Where they are now."""
        new: dict[Place, list[RouteObject]] = {}
        for route in sorted(routes, key=_age):
            for place in self._admitted(route, standings):
                new.setdefault(place, []).append(route)
        for place, coming in new.items():
            others = self._attached.get(place[0], {}).get(place[1], ())
            self._set(place, sorted((*others, *coming), key=_age))
        return set(new)

    def _admitted(self, route: RouteObject, standings: Standings) -> tuple[Place, ...]:
        """Two parentRefs may lead to the same place, which counts once."""
        places: dict[Place, None] = {}
        told = self._told[route.key] = []
        for parent, standing in zip(route.parents, standings.of(route), strict=True):
            wanted = [(at, standing.group) for at in standing.ports]
            refusal = self._patterns.admit(route, [(*at, group) for at, group in wanted])
            if refusal:
                told.append((said(parent, ACCEPTED, FALSE, UNSUPPORTED_VALUE, refusal, "spec.rules"), parent.index))
            else:
                told += [(one, standing.ref) for one in standing.said]
                places |= dict.fromkeys(wanted)
        found = self._places[route.key] = tuple(places)
        return found

    def _set(self, place: Place, routes: list[RouteObject]) -> None:
        at, group = place
        if routes:
            self._attached.setdefault(at, {})[group] = routes
            return
        del self._attached[at][group]
        if not self._attached[at]:
            del self._attached[at]

    def _compare(self, places: Iterable[Place]) -> set[str]:
        """Which routes have the same matches there.  Returns those about which something else is to be said."""
        different = set[str]()
        for place in places:
            routes = self._attached.get(place[0], {}).get(place[1], [])
            before, now = self._shadowed.pop(place, {}), shadowed(routes) if len(routes) > 1 else {}
            if now:
                self._shadowed[place] = now
            different |= unequal(before, now)
        return different

    # ---- what is said ----

    def _conditions(self, key: str, generation: int) -> tuple[Condition, ...]:
        found = (Condition(KIND, key, *one, generation, ref) for one, ref in self._told.get(key, ()))
        return tuple(map(self._with_shadow, found)) if self._shadowed else tuple(found)

    def _with_shadow(self, condition: Condition) -> Condition:
        """Of two routes that want the same requests one gets them, which the other's Accepted condition tells."""
        if condition.type != ACCEPTED or condition.status != TRUE:
            return condition
        service = condition.parent.removeprefix("Service ").partition(":")[0]
        places = sorted(place for place in self._places[condition.object] if place[0][0] == service)
        notes = (self._shadowed.get(place, {}).get(condition.object) for place in places)
        note = next((note for note in notes if note), None)
        if note is None:
            return condition
        message = f"{condition.message}; {note}" if condition.message else note
        return replace(condition, message=message, field="spec.rules")


def _age(route: RouteObject) -> tuple[str, str]:
    return route.created or YOUNGEST, route.key
