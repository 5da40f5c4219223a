"""All tables."""

from __future__ import annotations

from tests.config.verdicts import authorization_policy, mesh_tls, metadata, rate_limit_policy, traffic_policy
from tests.config.verdicts.cases import Case

OURS: list[Case] = [
    *traffic_policy.CASES,
    *rate_limit_policy.CASES,
    *authorization_policy.CASES,
    *mesh_tls.CASES,
    *metadata.CASES,
]
CASES: list[Case] = [*OURS]
