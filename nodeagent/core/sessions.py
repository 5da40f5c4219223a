"""Which endpoint a session belongs to (GEP-1619): tokens that name an endpoint, and where requests carry them.

A token is a hash of the endpoint, never its address: what a client sends is looked up among the endpoints that the
rule leads to now, so that it can choose among those and reach nothing else.  An unknown one is as good as none.
Every node makes the same tokens, since nodes share no key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodeagent.core.model import Endpoint
from nodeagent.core.traffic import Carrier, SessionPersistence

DIGEST_BYTES = 8
MAX_TOKEN = 64
"""Characters; ours have 16, and up to 12 more for the time that they end."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """One rule's sessions with the endpoints of one backend, made once for them: hashing is not for every request."""

    session: SessionPersistence
    by_token: Mapping[str, Endpoint]
    tokens: Mapping[Endpoint, str]

    def endpoint(self, headers: Iterable[tuple[str, str]], now: float) -> Endpoint | None:
        """Where the request's session lives; None = it has none that counts.  `now`: seconds since the epoch.

        `headers` as in RequestHead.  Of several tokens the first that is known counts.
        """
        for token in carried(self.session, headers):
            digest, _, end = token[:MAX_TOKEN].partition(".")
            found = self.by_token.get(digest)
            if found is not None and self._lasts(end, now):
                return found
        return None

    def response_field(self, endpoint: Endpoint, now: float) -> tuple[str, str]:
        """(name, value) of what tells the client its token."""
        session, token = self.session, self.tokens[endpoint]
        if session.absolute_timeout and not session.permanent:
            token += f".{int(now * 1000) + session.absolute_timeout:x}"
        if session.carrier is Carrier.HEADER:
            return session.name, token
        age = f"; Max-Age={max(1, session.absolute_timeout // 1000)}" if session.permanent else ""
        return "set-cookie", f"{session.name}={token}; Path={session.path}{age}; HttpOnly"

    def _lasts(self, end: str, now: float) -> bool:
        """A client may write a later end: it prolongs its own session and no other's."""
        if not self.session.absolute_timeout or self.session.permanent:
            return not end
        try:
            return now * 1000 < int(end, 16) <= now * 1000 + self.session.absolute_timeout
        except ValueError:
            return False


def sessions_of(session: SessionPersistence, scope: str, endpoints: Iterable[Endpoint]) -> Sessions:
    """`scope` names rule and backend: a token of another one means nothing here."""
    tokens = {endpoint: _token(scope, endpoint) for endpoint in endpoints}
    return Sessions(session, {token: endpoint for endpoint, token in tokens.items()}, tokens)


def _token(scope: str, endpoint: Endpoint) -> str:
    text = f"{scope}|{endpoint.address}|{endpoint.port}"
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def carried(session: SessionPersistence, headers: Iterable[tuple[str, str]]) -> Iterable[str]:
    """Every token of this session that the request brings."""
    if session.carrier is Carrier.HEADER:
        return [value for name, value in headers if name == session.name]
    pairs = (pair for name, value in headers if name == "cookie" for pair in value.split(";"))
    split = (pair.strip().partition("=") for pair in pairs)
    return [value.strip('"') for name, _, value in split if name == session.name]
