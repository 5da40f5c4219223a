"""List and watch of one kind as a state machine: what to ask next, whatever became of the last question.  Pure.

The store that follows it (`nodeagent.kube.table`) equals the server's once a list is complete, and from then on as long
as every event of a watch from that version is taken in.  So a version is kept only while nothing was missed: when the
server no longer knows it (410), or answers what cannot be read, everything is listed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nodeagent.kube.api import Failure, Reason

FIRST_PAUSE = 0.1  # seconds; doubled with every failure in a row
LONGEST_PAUSE = 4.0  # an API server that is back is noticed within 5 s
RELIST_SPREAD = 2.0  # a 410 meets every node of the cluster at once
MOST_SPREAD = 4  # times doubled, while no list is followed by a watch that works
FORBIDDEN_SOON = 2.0  # a server that has just started forbids everything for a moment
FORBIDDEN_AGAIN = 4.0  # the second time in a row, and from then on
ABSENT_AGAIN = 10.0  # a CRD that is installed later is found within this time
SURE_AFTER = 2  # looks that find no such kind, before objects that we have are given up
SHORTEST_WATCH = 1.0  # a server that ends watches sooner is not asked again at once
WATCH_SECONDS = 300  # to 600: every node's end at another time
MOST_FAULTS = 3  # answers in a row that cannot be used, before everything is listed again


@dataclass(frozen=True, slots=True)
class List:
    """One page.  `token` "" = the first: what was listed before is void."""

    token: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    version: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Wait:
    """`for_contact`: as soon as the API server answers anybody, waiting longer makes no sense."""

    seconds: float
    for_contact: bool = False


Step = List | Watch | Wait


class Reflection:
    """`jitter` returns 0 <= x < 1.  The caller does `step`, and says what came of it."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._version = ""  # "" = a list is needed
        self._token = ""
        self._pause: Wait | None = None
        self._in_row = 0  # failures
        self._faults = 0  # of these, answers that cannot be used
        self._missing = 0  # looks that found no such kind
        self._forbidden = 0  # answers in a row
        self._gone = 0  # versions in a row that the server did not know
        self.relists = 0
        self.failures = 0
        self.problem: Failure | None = None  # the last one, until something works again

    @property
    def complete(self) -> bool:
        """A list was completed, and nothing was missed since."""
        return bool(self._version)

    @property
    def surely_absent(self) -> bool:
        return self._missing >= SURE_AFTER

    def step(self) -> Step:
        if self._pause is not None:
            return self._pause
        if self._version:
            return Watch(self._version, WATCH_SECONDS + int(WATCH_SECONDS * self._jitter()))
        return List(self._token)

    def waited(self) -> None:
        self._pause = None

    def listed(self, version: str, token: str) -> bool:
        """A page was taken in.  True = it was the last, and what was not listed is not there."""
        self._works()
        self._missing = 0
        self._token = token
        if token:
            return False
        self._version = version
        return True

    def watching(self) -> None:
        """The server has accepted the watch: nothing was missed."""
        self.problem = None

    def advanced(self, version: str) -> None:
        """An event or a bookmark was taken in."""
        self._works()
        self._gone = 0
        self._version = version or self._version

    def ended(self, lasted: float) -> None:
        """The server ended the watch in good order, after so many seconds."""
        if lasted < SHORTEST_WATCH:
            self._again(Failure(Reason.UNAVAILABLE, f"the API server ended a watch after {lasted:.1f} s"))

    def failed(self, failure: Failure) -> None:
        self._again(failure)
        if failure.reason is Reason.GONE:
            self._list_again()
            self._gone += 1
            self._pause = Wait(self._jitter() * RELIST_SPREAD * 2 ** min(self._gone - 1, MOST_SPREAD))
        elif failure.reason is Reason.MISSING:
            self._missing += 1
            self._version = self._token = ""
            self._pause = Wait(ABSENT_AGAIN * self._spread() / (1 if self.surely_absent else 2))
        elif failure.reason is Reason.FORBIDDEN:
            self._forbidden += 1
            self._pause = Wait((FORBIDDEN_SOON if self._forbidden == 1 else FORBIDDEN_AGAIN) * self._spread())
        elif failure.reason is Reason.UNINTELLIGIBLE:
            self._faults += 1
            if self._faults >= MOST_FAULTS or not self._version:
                self._list_again()
                self._faults = 0

    def _works(self) -> None:
        self._in_row = self._faults = self._forbidden = 0
        self.problem = None

    def _again(self, failure: Failure) -> None:
        self.problem = failure
        self.failures += 1
        self._in_row += 1
        seconds = max(self._pause_seconds(), failure.retry_after)
        self._pause = Wait(seconds, for_contact=failure.reason is Reason.UNAVAILABLE and not failure.retry_after)

    def _list_again(self) -> None:
        self._version = self._token = ""
        self.relists += 1

    def _pause_seconds(self) -> float:
        longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._in_row - 1, 10))
        return longest * self._spread()

    def _spread(self) -> float:
        return 0.5 + self._jitter() / 2
