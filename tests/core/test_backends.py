"""A route leads past no policy: what protects the backend is judged when a frontend in front of it was dialled."""

from __future__ import annotations

import dataclasses

import pytest

from nodeagent.core.backends import brings_more, guarded_groups
from nodeagent.core.coverage import Coverage, coverage, newly_covered
from nodeagent.core.decide import decide
from nodeagent.core.judge import Judge
from nodeagent.core.kernel_state import DestFlag, destination_flags
from nodeagent.core.model import (
    Action,
    Backend,
    Decision,
    Destination,
    Endpoint,
    EnforcementLevel,
    HttpOperation,
    PathKind,
    Policy,
    PolicyRule,
    Protocol,
    RequestHead,
    Rule,
    Snapshot,
    Source,
    ValueMatch,
    Workload,
)
from nodeagent.regex import compile_regex

WEB = Workload("shop", "web-1", "web", "web", ("198.18.0.2", "fd00::2"), "/run/netns/web", enrolled=True)
JOB = Workload("batch", "job-1", "job", "job", ("198.18.0.3", "fd00::3"), "/run/netns/job", enrolled=True)
CART = ("198.19.0.1", 80)
PAYMENTS = Endpoint("198.18.0.12", 8080)
PAYMENTS6 = Endpoint("fd00::12", 8080)
GET = RequestHead("GET", "/", "", "cart", ())
BATCH = Source(namespaces=("batch",))
NETWORK, APPLICATION = EnforcementLevel.NETWORK, EnforcementLevel.APPLICATION


def policy(
    name: str,
    action: Action,
    source: Source | None = BATCH,
    *,
    level: EnforcementLevel = NETWORK,
    ports: tuple[int, ...] = (),
    http: tuple[HttpOperation, ...] = (),
) -> Policy:
    return Policy(f"shop/{name}", action, level, (PolicyRule((source,) if source else (), ports, http),))


DENY = policy("no-batch", Action.DENY)


def backend(*policies: Policy, endpoint: Endpoint = PAYMENTS, refuse: str = "", weight: int = 1) -> Backend:
    return Backend("shop/payments:80", weight, (endpoint,), policies=policies, ports=(80, 8080), refuse=refuse)


def rule(*backends: Backend, route: str = "shop/r") -> Rule:
    return Rule(route, "0", PathKind.PREFIX, "/", "", (), (), backends)


def cart(*backends: Backend, policies: tuple[Policy, ...] = ()) -> Destination:
    """A frontend without policies of its own, unless given, and a producer route."""
    return Destination(
        "shop/cart:80",
        *CART,
        Protocol.HTTP1,
        is_frontend=True,
        producer_rules=(rule(*backends),),
        has_producer_route=True,
        policies=policies,
        ports=(80, 8080),
    )


def ask(destination: Destination, caller: Workload, head: RequestHead = GET, rand: float = 0.0) -> Decision:
    """Both ways to decide, which agree."""
    address = caller.addresses[0]
    answer = decide(destination, caller, address, head, rand, compile_regex)
    assert Judge(destination, compile_regex).decide(caller, address, head, rand) == answer
    return answer


@pytest.mark.parametrize("level", [NETWORK, APPLICATION])
def test_a_deny_on_the_backend_denies_who_dialled_the_frontend(level: EnforcementLevel) -> None:
    front = cart(backend(policy("no-batch", Action.DENY, level=level)))
    denied = ask(front, JOB)
    assert (denied.status, denied.reason, denied.policy) == (403, "denied", "shop/no-batch")
    assert denied.detail == "denied by AuthorizationPolicy shop/no-batch"
    assert (denied.route, denied.rule, denied.backend, denied.endpoint) == ("shop/r", "0", "shop/payments:80", None)
    assert ask(front, WEB).endpoint == PAYMENTS


def test_only_the_share_of_the_protected_backend_is_denied() -> None:
    open_one = Backend("shop/open:80", 3, (Endpoint("198.18.0.13", 8080),))
    front = cart(open_one, backend(DENY))
    assert [ask(front, JOB, rand=step / 4).status for step in range(4)] == [0, 0, 0, 403]
    assert [ask(front, WEB, rand=step / 4).status for step in range(4)] == [0, 0, 0, 0]


def test_a_backend_with_an_allow_policy_takes_only_whom_that_allows() -> None:
    front = cart(backend(policy("only-batch", Action.ALLOW)))
    assert ask(front, JOB).status == 0
    assert (ask(front, WEB).status, ask(front, WEB).policy) == (403, "shop/only-batch")


def test_an_allow_of_the_frontend_alone_opens_no_backend() -> None:
    """Both pools must let the request pass, though they share an ALLOW."""
    batch, web = policy("batch", Action.ALLOW), policy("web", Action.ALLOW, Source(namespaces=("shop",)))
    front = cart(backend(batch), policies=(batch, web))
    assert brings_more(front, front.producer_rules[0].backends[0])
    assert (ask(front, JOB).status, ask(front, WEB).policy) == (0, "shop/batch")


def test_http_fields_of_a_backends_policy_are_judged_on_the_request() -> None:
    operation = HttpOperation(methods=("DELETE",), paths=((PathKind.PREFIX, "/refunds"),))
    front = cart(backend(policy("no-refunds", Action.DENY, None, level=APPLICATION, http=(operation,))))
    assert front.judges_paths, "the path must be in the normal form that is judged"
    refund = RequestHead("DELETE", "/refunds/1", "", "cart", ())
    assert (ask(front, WEB, refund).policy, ask(front, WEB).status) == ("shop/no-refunds", 0)


def test_headers_that_only_a_backends_policy_looks_at_are_among_all_policies() -> None:
    operation = HttpOperation(headers=(ValueMatch("x-env", "test"),))
    behind = policy("no-test", Action.DENY, None, level=APPLICATION, http=(operation,))
    own = policy("own", Action.DENY)
    assert cart(backend(behind), policies=(own,)).all_policies == (own, behind)


def test_a_refused_backend_answers_403_and_says_why() -> None:
    denied = ask(cart(backend(refuse="policy shop/p is broken")), WEB)
    assert (denied.status, denied.policy, denied.detail) == (403, "", "policy shop/p is broken")


def test_who_may_not_call_a_backend_does_not_learn_whether_it_is_ready() -> None:
    front = cart(dataclasses.replace(backend(DENY), endpoints=()))
    assert (ask(front, JOB).status, ask(front, WEB).status) == (403, 503)


def test_ports_of_a_backends_policy_are_the_backends() -> None:
    """The frontend's policy is for another of its ports; by the backend's numbers it applies."""
    port_81 = policy("no-81", Action.DENY, ports=(81,))
    behind = dataclasses.replace(backend(port_81), ports=(81, 8080))
    assert ask(cart(behind, policies=(port_81,)), JOB).policy == "shop/no-81"
    assert ask(cart(backend(port_81), policies=(port_81,)), JOB).status == 0


def test_a_backend_of_the_other_family_is_judged_by_the_callers_address_of_that_family() -> None:
    from_six = policy("no-six", Action.DENY, Source(cidrs=("fd00::3/128",)))
    front = cart(backend(from_six, endpoint=PAYMENTS6), policies=(from_six,))
    assert (ask(front, JOB).policy, ask(front, WEB).status) == ("shop/no-six", 0)


def test_callers_that_share_an_account_and_a_source_are_told_apart_where_a_backend_sees_more() -> None:
    """A pod without an IPv4 address reaches an IPv4 frontend from loopback: its source tells nothing."""
    from_six = policy("no-six", Action.DENY, Source(cidrs=("fd00::3/128",)))
    judge = Judge(cart(backend(from_six, endpoint=PAYMENTS6)), compile_regex)
    one, other = (dataclasses.replace(WEB, addresses=(address,)) for address in ("fd00::2", "fd00::3"))
    assert [judge.decide(pod, "127.0.0.1", GET, 0.0).status for pod in (one, other, one)] == [0, 403, 0]


def test_audits_of_a_backend_count_whether_or_not_the_request_is_denied() -> None:
    front, behind = (policy(name, Action.AUDIT, level=APPLICATION) for name in ("front", "behind"))
    audited = cart(backend(behind), policies=(front,))
    assert ask(audited, JOB).audits == ("shop/front", "shop/behind")
    assert ask(cart(backend(behind, DENY), policies=(front,)), JOB).audits == ("shop/front", "shop/behind")
    assert ask(audited, WEB).audits == ()


def test_an_audit_that_connect_counted_already_is_not_counted_again() -> None:
    audit = policy("watch", Action.AUDIT)
    assert ask(cart(backend(audit)), JOB).audits == ("shop/watch",)
    assert ask(cart(backend(audit), policies=(audit,)), JOB).audits == ()


def test_a_route_for_one_namespace_guards_its_callers_only() -> None:
    front = dataclasses.replace(
        cart(Backend("shop/open:80", 1, (PAYMENTS,))),
        consumer_rules={"batch": (rule(backend(policy("none", Action.DENY, None)), route="batch/r"),)},
    )
    assert guarded_groups(front) == {"batch"}
    assert (ask(front, JOB).status, ask(front, WEB).status) == (403, 0)
    now = coverage(Snapshot(1, {CART: front}, {}), [WEB, JOB])
    assert newly_covered(Coverage(), now, [WEB.key, JOB.key]) == {JOB.key: {CART}}


def test_a_policy_behind_a_producer_route_covers_every_caller_of_the_frontend() -> None:
    before = coverage(Snapshot(1, {CART: cart(backend())}, {}), [WEB, JOB])
    now = coverage(Snapshot(2, {CART: cart(backend(DENY))}, {}), [WEB, JOB])
    assert newly_covered(before, now, [WEB.key, JOB.key]) == {WEB.key: {CART}, JOB.key: {CART}}


def test_what_the_frontend_judges_already_is_not_judged_twice() -> None:
    """The usual case: one policy for the namespace, or backends that share the frontend's endpoints."""
    allow = policy("all", Action.ALLOW, None)
    alike = cart(backend(DENY, allow), policies=(DENY, allow))
    assert not brings_more(alike, alike.producer_rules[0].backends[0])
    assert guarded_groups(alike) == frozenset()
    assert guarded_groups(cart(backend(DENY, weight=0))) == frozenset()


def test_the_kernel_enforces_the_proxy_where_a_backend_is_guarded() -> None:
    assert DestFlag.ENFORCE in destination_flags(cart(backend(DENY)))
    assert DestFlag.ENFORCE in destination_flags(cart(backend(refuse="why")))
    assert DestFlag.ENFORCE not in destination_flags(cart(backend(DENY), policies=(DENY,)))


def test_callers_whom_a_backends_policies_leave_alone_share_one_prepared_route() -> None:
    judge = Judge(cart(backend(DENY)), compile_regex)
    for address in WEB.addresses:
        judge.decide(WEB, address, GET, 0.0)
    judge.decide(JOB, JOB.addresses[0], GET, 0.0)
    first, second, guarded = judge._gated.values()
    assert first is second
    assert guarded is not first
