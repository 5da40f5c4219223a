"""Hostile and merely odd HTTP/1 messages as tables: the acceptance suite and the proxy's own tests read the same rows.

Five nouns: a *MalformedRequest* must be refused; a *TolerableRequest* may be refused or forwarded, but never
misread; an *AcceptedRequest* must be forwarded; a *BadResponse* is what a broken upstream says; an *Evasion* is
another way to write a path or a host that a DENY rule names.
"""
