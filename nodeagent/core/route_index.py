"""Which of a destination's rules is the first that matches, at a cost that does not grow with their number.

A few rules are tried one by one.  More are indexed, each in one place: by its path (a dict of exact paths, a tree of
prefix segments), and where many share that, by one of its other exact conditions, and so on.  A search visits
the places that the request leads to and keeps the smallest position found, so it gives what trying all in order
(`matching.first_match`) gives, whatever their order.  It is bounded by what the request holds (segments as deep as
the deepest rule, header fields, query parameters), except for regular expressions: those at one place are tried in
order, and `nodeagent.config` caps them.

Building is spread over the first searches, in portions; until it is complete, the rules that are not yet in the
index are tried one by one after those that are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from nodeagent.core.matching import Regex, header_values, mismatch, query_values
from nodeagent.core.model import PathKind, RequestHead, Rule, ValueMatch
from nodeagent.core.paths import respell

FEW_RULES = 8
"""Up to here trying all is as fast; the usual route has one or two."""
_CROWD = 4  # entries at one place that are still tried one by one
_PORTION = 4096  # rules, path segments and conditions put in place per search: 2 to 3 ms

Find = Callable[[RequestHead], int]
Condition = tuple[int, str, str]  # _METHOD, _HEADER or _QUERY; name; value
Entry = tuple[int, tuple[Condition, ...], Rule | None]
"""Position, what is left to compare, and the rule if it has a regular expression: then all of it is tested."""
Names = dict[str, dict[str | None, "Place"]]  # header or parameter name -> value -> place; None is no rule's value
Known = dict[int, Mapping[str, str | None]]  # _HEADER, _QUERY -> values by name; filled when first asked for

_METHOD, _HEADER, _QUERY = range(3)
_EXACT, _PREFIX, _ANY_PATH, _SLOW = range(4)


def finder(rules: Sequence[Rule], regex: Regex) -> Find:
    """A function that tells the position of the first match, `len(rules)` when none matches.  Not for threads."""
    return RuleWalk(rules, regex).find if len(rules) <= FEW_RULES else RouteIndex(rules, regex).find


class RuleWalk:
    """Tries every rule in order, touching the request head as little as possible."""

    __slots__ = ("_candidates", "_none", "_regex")

    def __init__(self, rules: Sequence[Rule], regex: Regex) -> None:
        self._candidates = [(*_candidate(rule), position) for position, rule in enumerate(rules)]
        self._none = len(rules)
        self._regex = regex

    def find(self, head: RequestHead) -> int:
        path, method = head.path, head.method
        if "%" in path:
            path = respell(path)
        for kind, value, below, wanted, rule, position in self._candidates:
            if kind == _PREFIX:
                if path != value and not path.startswith(below):
                    continue
            elif kind == _EXACT and path != value:
                continue
            if wanted and wanted != method:
                continue
            if rule is not None and mismatch(rule, head, self._regex):
                continue
            return position
        return self._none


class RouteIndex:
    """Rules by path, then by what else they ask for."""

    __slots__ = (
        "_built",
        "_depth",
        "_exact",
        "_first_prefix",
        "_none",
        "_patterns",
        "_prefixes",
        "_regex",
        "_rules",
    )

    def __init__(self, rules: Sequence[Rule], regex: Regex) -> None:
        self._rules = rules
        self._built = 0  # of the rules, how many are in place
        self._none = len(rules)
        self._regex = regex
        self._exact: dict[str, Place] = {}
        self._patterns = Place()
        self._prefixes = _Segment()
        self._first_prefix = _NEVER  # the smallest position of a prefix
        self._depth = 0  # segments of the longest prefix

    def find(self, head: RequestHead) -> int:
        is_whole = self._built == self._none
        if not is_whole:
            self._build(_PORTION)
        path, best = head.path, self._none
        known: Known = {}
        if "%" in path:
            path = respell(path)
        place = self._exact.get(path)
        if place is not None:
            best = place.first if place.is_sure else place.search(head, known, self._regex, best)
        if self._patterns.first < best:
            best = self._patterns.search(head, known, self._regex, best)
        if self._first_prefix < best:
            for place in self._on_the_way(path):
                if place.first < best:
                    best = place.first if place.is_sure else place.search(head, known, self._regex, best)
        return best if is_whole else self._beyond(head, best)

    def _on_the_way(self, path: str) -> list[_Segment]:
        """Those prefixes of `path` that rules have, the longest first: usually that has the answer."""
        segment = self._prefixes
        found = [segment] if segment.size else []
        for name in path.split("/", self._depth):
            below = segment.below.get(name)
            if below is None:
                break
            segment = below
            if segment.size:
                found.append(segment)
        found.reverse()
        return found

    def _beyond(self, head: RequestHead, best: int) -> int:
        """Whatever is in place comes before whatever is not."""
        if best < self._none:
            return best
        known: Known = {}
        for position in range(self._built, self._none):
            rule = self._rules[position]
            if rule.headers and _differ(rule.headers, _values(_HEADER, head, known)):
                continue  # nothing but a short cut: there may be thousands
            if not mismatch(rule, head, self._regex):
                return position
        return best

    def _build(self, portion: int) -> None:
        while portion > 0 and self._built < self._none:
            rule = self._rules[self._built]
            conditions = _conditions(rule)
            self._place(rule, self._built).add((self._built, conditions, rule if _has_pattern(rule) else None))
            self._built += 1
            portion -= 1 + len(conditions) + rule.path.count("/")

    def _place(self, rule: Rule, position: int) -> Place:
        if rule.path_kind is PathKind.PREFIX:
            return self._prefix_place(respell(rule.path).rstrip("/"), position)
        if rule.path_kind is PathKind.REGEX:
            return self._patterns
        path = respell(rule.path)
        place = self._exact.get(path)
        if place is None:
            place = self._exact[path] = Place()
        return place

    def _prefix_place(self, prefix: str, position: int) -> Place:
        self._first_prefix = min(self._first_prefix, position)
        segment = self._prefixes
        names = prefix.split("/") if prefix else ()
        self._depth = max(self._depth, len(names))
        for name in names:
            below = segment.below.get(name)
            if below is None:
                if segment.below is _NOTHING:
                    segment.below = {}
                below = segment.below[name] = _Segment()
            segment = below
        return segment


_NEVER = 1 << 60  # a position after all others


class Place:
    """Rules that what is known so far leads to.

    `first` is the smallest position among them; `is_sure`: that rule matches whatever comes here; `size` counts them.
    """

    __slots__ = ("_division", "_entries", "first", "is_sure", "size")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._division: _Division | None = None
        self.first = _NEVER
        self.is_sure = False
        self.size = 0

    def add(self, entry: Entry) -> None:
        """Entries come in order of position."""
        if self.is_sure:
            return  # hidden by the first
        if not self.size:
            self.first = entry[0]
            self.is_sure = not entry[1] and entry[2] is None
        self.size += 1
        if self._division is not None:
            self._division.add(entry)
        elif len(self._entries) < _CROWD:
            self._entries.append(entry)
        else:
            self._division = _Division()
            for one in (*self._entries, entry):
                self._division.add(one)
            self._entries = []

    def search(self, head: RequestHead, known: Known, regex: Regex, best: int) -> int:
        """The position of the first match here, if it is before `best`; else `best`."""
        if self._division is not None:
            return self._division.search(head, known, regex, best)
        for position, conditions, rule in self._entries:
            if position >= best:
                break
            if conditions and not _hold(conditions, head, known):
                continue
            if rule is not None and mismatch(rule, head, regex):
                continue
            return position
        return best


class _Segment(Place):
    """One step of the tree of path prefixes: the rules with the prefix that ends here, and the steps that go on."""

    __slots__ = ("below",)

    def __init__(self) -> None:
        super().__init__()
        self.below: dict[str, _Segment] = _NOTHING


_NOTHING: dict[str, _Segment] = {}  # below all the segments that nothing is below of; never changed


class _Division:
    """A crowded place, divided by one condition of each rule: the one that leads to the fewest others."""

    __slots__ = ("_always", "_methods", "_patterns", "_values")

    def __init__(self) -> None:
        self._methods: dict[str | None, Place] = {}
        self._values: dict[int, Names] = {}  # by _HEADER, _QUERY
        self._patterns: list[tuple[int, Rule]] = []
        self._always = _NEVER  # the position of a rule that matches whatever comes here

    def add(self, entry: Entry) -> None:
        position, conditions, rule = entry
        if position > self._always:
            return  # hidden
        if conditions:
            key = conditions[0] if len(conditions) == 1 else min(conditions, key=self._size)
            left = tuple([one for one in conditions if one != key]) if len(conditions) > 1 else ()
            places = self._places(key[0], key[1])
            if key[2] not in places:
                places[key[2]] = Place()
            places[key[2]].add((position, left, rule))
        elif rule is not None:
            self._patterns.append((position, rule))
        else:
            self._always = position

    def _size(self, key: Condition) -> int:
        place = self._places(key[0], key[1]).get(key[2])
        return 0 if place is None else place.size

    def _places(self, what: int, name: str) -> dict[str | None, Place]:
        """Value -> place."""
        return self._methods if what == _METHOD else self._values.setdefault(what, {}).setdefault(name, {})

    def search(self, head: RequestHead, known: Known, regex: Regex, best: int) -> int:
        best = min(best, self._always)
        if self._methods:
            place = self._methods.get(head.method)
            if place is not None and place.first < best:
                best = place.first if place.is_sure else place.search(head, known, regex, best)
        for what, names in self._values.items():
            values = known.get(what) or _values(what, head, known)
            few = names if len(names) <= len(values) else {name: names[name] for name in values if name in names}
            best = _search_values(few, values, head, known, regex, best)
        for position, rule in self._patterns:
            if position >= best:
                break
            if not mismatch(rule, head, regex):
                return position
        return best


def _search_values(
    names: Names, values: Mapping[str, str | None], head: RequestHead, known: Known, regex: Regex, best: int
) -> int:
    for name, places in names.items():
        place = places.get(values.get(name))
        if place is not None and place.first < best:
            best = place.first if place.is_sure else place.search(head, known, regex, best)
    return best


def _hold(conditions: Iterable[Condition], head: RequestHead, known: Known) -> bool:
    for what, name, value in conditions:
        if (head.method if what == _METHOD else _values(what, head, known).get(name)) != value:
            return False
    return True


def _differ(matches: Sequence[ValueMatch], values: Mapping[str, str | None]) -> bool:
    first = matches[0]
    if not first.regex and values.get(first.name) != first.value:
        return True  # usually, and without a generator
    return len(matches) > 1 and any(not one.regex and values.get(one.name) != one.value for one in matches)


def _values(what: int, head: RequestHead, known: Known) -> Mapping[str, str | None]:
    values = known.get(what)
    if values is None:
        values = known[what] = header_values(head.headers) if what == _HEADER else query_values(head.query)
    return values


def _candidate(rule: Rule) -> tuple[int, str, str, str, Rule | None]:
    """Split a rule into what is compared in line and, only where needed, the rule itself for the full test."""
    simple = not rule.headers and not rule.query and rule.path_kind is not PathKind.REGEX
    value = respell(rule.path)
    kind = _EXACT if rule.path_kind is PathKind.EXACT else _SLOW
    if rule.path_kind is PathKind.PREFIX:
        value = value.rstrip("/")
        kind = _PREFIX if value else _ANY_PATH
    return kind, value, value + "/", rule.method, None if simple else rule


def _conditions(rule: Rule) -> tuple[Condition, ...]:
    """What the rule compares beside its path and without regular expressions."""
    if not (rule.method or rule.headers or rule.query):
        return ()
    method = [(_METHOD, "", rule.method)] if rule.method else []
    return (*method, *_exact(_HEADER, rule.headers), *_exact(_QUERY, rule.query))


def _exact(what: int, matches: Iterable[ValueMatch]) -> list[Condition]:
    return [(what, match.name, match.value) for match in matches if not match.regex]


def _has_pattern(rule: Rule) -> bool:
    if rule.path_kind is PathKind.REGEX:
        return True
    return (bool(rule.headers) and any(match.regex for match in rule.headers)) or (
        bool(rule.query) and any(match.regex for match in rule.query)
    )
