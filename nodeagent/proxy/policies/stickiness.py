"""What ties a client to an endpoint: `sessionPersistence` of a rule, or a cookie that a RingHash balancer hashes."""

from __future__ import annotations

import time
from random import getrandbits

from nodeagent.core.model import Endpoint, RequestHead, Treatment
from nodeagent.core.ring import cookie_value, new_cookie, set_cookie
from nodeagent.core.sessions import Sessions, sessions_of
from nodeagent.core.traffic import HashOn, LoadBalancer


class Sticky:
    """Of one request.  `endpoint`: where its session lives; `head`: as it would be if the client knew its cookie."""

    __slots__ = ("_balancer", "_cookie", "_sessions", "endpoint", "head")

    def __init__(self, sessions: Sessions | None, balancer: LoadBalancer | None, head: RequestHead) -> None:
        self.head = head
        self._sessions = sessions
        self.endpoint = sessions.endpoint(head.headers, time.time()) if sessions is not None else None
        self._balancer = balancer
        self._cookie = ""
        if balancer is not None and sessions is None and cookie_value(head.headers, balancer.name) is None:
            self._cookie = new_cookie(getrandbits(64))
            fields = (*head.headers, ("cookie", f"{balancer.name}={self._cookie}"))
            self.head = RequestHead(head.method, head.path, head.query, head.host, fields)

    def response_field(self, endpoint: Endpoint) -> tuple[str, str] | None:
        if self._sessions is not None:
            known = endpoint == self.endpoint or endpoint not in self._sessions.tokens
            return None if known else self._sessions.response_field(endpoint, time.time())
        if self._cookie and self._balancer is not None:
            return "set-cookie", set_cookie(self._balancer, self._cookie)
        return None


class Stickiness:
    """Of one Treatment."""

    def __init__(self, treatment: Treatment, scope: str) -> None:
        self._sessions = sessions_of(treatment.session, scope, treatment.endpoints) if treatment.session else None
        balancer = treatment.traffic.load_balancer if treatment.traffic is not None else None
        self._balancer = balancer if balancer is not None and balancer.hash_on is HashOn.COOKIE else None

    def __bool__(self) -> bool:
        return self._sessions is not None or self._balancer is not None

    def of(self, head: RequestHead) -> Sticky:
        return Sticky(self._sessions, self._balancer, head)
