"""AuthorizationPolicies in DryRun: what would be denied is found as if they were in force, and nothing else changes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nodeagent.core.addresses import family
from nodeagent.core.authorization import network_verdict
from nodeagent.core.coverage import coverage, judges_requests
from nodeagent.core.decide import decide, denial
from nodeagent.core.dry_run import WOULD_DENY, WOULD_DENY_CONNECT, enforced, put_in_force
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
    Rung,
    Snapshot,
    Source,
    Workload,
)
from nodeagent.core.paths import PathError, normalize
from nodeagent.core.prepared_policies import PreparedPolicies, applying
from nodeagent.regex import compile_regex
from tests.core import strategies as some

WEB = Workload("shop", "web-1", "web", "web", ("198.18.0.2",), "/run/netns/web", enrolled=True)
JOB = Workload("batch", "job-1", "job", "job", ("198.18.0.3",), "/run/netns/job", enrolled=True)
PAYMENTS = Endpoint("198.18.0.12", 8080)
NETWORK, APPLICATION = EnforcementLevel.NETWORK, EnforcementLevel.APPLICATION
DELETE = HttpOperation(methods=("DELETE",))
ADMIN = HttpOperation(paths=((PathKind.PREFIX, "/admin"),))
BATCH = Source(namespaces=("batch",))


def trying(
    name: str,
    action: Action,
    *http: HttpOperation,
    source: Source | None = None,
    level: EnforcementLevel = APPLICATION,
    dry_run: bool = True,
) -> Policy:
    return Policy(f"shop/{name}", action, level, (PolicyRule((source,) if source else (), (), http),), dry_run)


def cart(*policies: Policy, protocol: Protocol = Protocol.HTTP1) -> Destination:
    """A frontend without a route."""
    return Destination(
        "shop/cart:80", "198.19.0.1", 80, protocol, True, (), (PAYMENTS,), policies=policies, ports=(80, 8080)
    )


def routed(front: Destination, *policies: Policy) -> Destination:
    """The same with a route to what `policies` protect."""
    behind = Backend("shop/payments:80", 1, (PAYMENTS,), policies=policies, ports=(80, 8080))
    rule = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), (behind,))
    return dataclasses.replace(front, producer_rules=(rule,), has_producer_route=True)


def ask(here: Destination, caller: Workload = WEB, method: str = "GET", path: str = "/") -> Decision:
    """Both ways to decide, which agree."""
    head = RequestHead(method, path, "", "cart", ())
    answer = decide(here, caller, caller.addresses[0], head, 0.0, compile_regex)
    assert Judge(here, compile_regex).decide(caller, caller.addresses[0], head, 0.0) == answer
    return answer


# ---- a full simulation, and nothing else ----


@st.composite
def meetings(draw: st.DrawFn) -> tuple[Destination, Workload, RequestHead, float]:
    """A caller has one address of the destination's family, so that connect() and a request see the same."""
    here = draw(some.destinations | some.routed_destinations())
    own = [address for address in some.ADDRESSES if family(address) == family(here.address)]
    caller = dataclasses.replace(draw(some.workloads), addresses=(draw(st.sampled_from(own)),))
    head = draw(some.heads)
    try:
        head.path = normalize(head.path)
    except PathError:
        assume(False)  # is tested apart
    return here, caller, head, draw(some.randoms)


@settings(max_examples=200, deadline=None)
@given(meetings())
def test_what_would_be_denied_is_what_is_denied_once_the_policies_are_in_force(
    meeting: tuple[Destination, Workload, RequestHead, float],
) -> None:
    here, caller, head, rand = meeting
    now = decide(here, caller, caller.addresses[0], head, rand, compile_regex)
    then = decide(put_in_force(here), caller, caller.addresses[0], head, rand, compile_regex)
    connect, connect_then = network_verdict(here, caller), network_verdict(put_in_force(here), caller)
    if connect.denied:
        assert connect.would == ()
        return  # no request will come
    assert connect.would == (((WOULD_DENY, connect_then.policy),) if connect_then.denied else ())
    if now.status == 403:
        assert now.would == ()
    elif connect_then.denied:
        assert now.would == ((WOULD_DENY_CONNECT, connect_then.policy),)
    else:
        assert now.would == (((WOULD_DENY, then.policy),) if then.status == 403 else ())


def without_dry_run(here: Destination) -> Destination:
    """As if nobody had written the policies."""

    def rules(group: tuple[Rule, ...]) -> tuple[Rule, ...]:
        guarded = [
            tuple(dataclasses.replace(one, policies=enforced(one.policies)) for one in rule.backends) for rule in group
        ]
        return tuple(dataclasses.replace(rule, backends=one) for rule, one in zip(group, guarded, strict=True))

    return dataclasses.replace(
        here,
        policies=enforced(here.policies),
        producer_rules=rules(here.producer_rules),
        consumer_rules={name: rules(group) for name, group in here.consumer_rules.items()},
    )


@settings(max_examples=200, deadline=None)
@given(meetings())
def test_a_policy_in_dry_run_changes_nothing_that_a_caller_can_feel(
    meeting: tuple[Destination, Workload, RequestHead, float],
) -> None:
    here, caller, head, rand = meeting
    bare = without_dry_run(here)
    now = decide(here, caller, caller.addresses[0], head, rand, compile_regex)
    wanted = decide(bare, caller, caller.addresses[0], head, rand, compile_regex)
    assert dataclasses.replace(now, would=()) == wanted
    assert network_verdict(here, caller)._replace(would=()) == network_verdict(bare, caller)
    kept = DestFlag.ENFORCE | DestFlag.REFUSE | DestFlag.FRONTEND
    assert destination_flags(here) & kept == destination_flags(bare) & kept
    assert here.judges_paths == bare.judges_paths
    target = (here.address, here.port)
    covered = [coverage(Snapshot(1, {target: one}, {}), [caller]) for one in (here, bare)]
    assert covered[0] == covered[1]


# ---- who is named ----


def test_a_deny_is_named_by_itself_and_an_allow_that_nobody_matches_by_the_first_of_them() -> None:
    assert ask(cart(trying("no-delete", Action.DENY, DELETE)), method="DELETE").would == (
        (WOULD_DENY, "shop/no-delete"),
    )
    allows = trying("a", Action.ALLOW, DELETE), trying("b", Action.ALLOW, ADMIN)
    assert ask(cart(*allows)).would == ((WOULD_DENY, "shop/a"),)
    assert ask(cart(*allows), method="DELETE").would == ()


def test_an_allow_in_force_that_matches_leaves_another_in_dry_run_nothing_to_deny() -> None:
    in_force = trying("reads", Action.ALLOW, HttpOperation(methods=("GET",)), dry_run=False)
    here = cart(in_force, trying("admin", Action.ALLOW, ADMIN))
    assert ask(here).would == ()
    denied = ask(here, path="/admin", method="DELETE")
    assert (denied.status, denied.policy, denied.would) == (403, "shop/reads", ())


def test_a_request_that_is_denied_counts_nowhere_else() -> None:
    here = cart(trying("all", Action.DENY, dry_run=False), trying("no-delete", Action.DENY, DELETE))
    assert (ask(here, method="DELETE").policy, ask(here, method="DELETE").would) == ("shop/all", ())


def test_what_the_backend_would_deny_is_named_unless_it_would_not_have_come_so_far() -> None:
    front, behind = trying("front", Action.DENY, DELETE), trying("behind", Action.DENY, ADMIN)
    here = routed(cart(front), behind)
    assert ask(here, path="/admin").would == ((WOULD_DENY, "shop/behind"),)
    assert ask(here, path="/admin", method="DELETE").would == ((WOULD_DENY, "shop/front"),)
    assert ask(here).would == ()


def test_a_backend_that_denies_makes_an_end_of_what_the_frontend_would_have_done() -> None:
    here = routed(cart(trying("front", Action.DENY)), trying("behind", Action.DENY, dry_run=False))
    assert (ask(here).policy, ask(here).would) == ("shop/behind", ())


def test_requests_on_a_connection_that_would_not_have_been_made_say_so() -> None:
    here = cart(trying("no-batch", Action.DENY, source=BATCH, level=NETWORK), trying("no-delete", Action.DENY, DELETE))
    assert network_verdict(here, JOB).would == ((WOULD_DENY, "shop/no-batch"),)
    assert ask(here, JOB, "DELETE").would == ((WOULD_DENY_CONNECT, "shop/no-batch"),)
    assert ask(here, WEB, "DELETE").would == ((WOULD_DENY, "shop/no-delete"),)


def test_what_is_noted_changes_nothing_else_of_a_decision() -> None:
    """Its copy names every field: one that is new must not be forgotten."""
    audits = Policy("shop/watch", Action.AUDIT, APPLICATION, (PolicyRule((), (), ()),))
    here = cart(audits, trying("all", Action.DENY))
    policies = PreparedPolicies(here, applying(here, WEB, WEB.addresses), here.policies, denial)
    fields = {field.name: (field.name,) for field in dataclasses.fields(Decision)}
    decision = Decision(**{**fields, "reason": "x", "audits": (), "would": ()})  # type: ignore[arg-type]
    noted = policies.noted(decision, RequestHead("GET", "/", "", "cart", ()), compile_regex)
    expected = {"audits": ("shop/watch",), "would": ((WOULD_DENY, "shop/all"),)}
    assert noted == dataclasses.replace(decision, **expected)  # type: ignore[arg-type]


# ---- what DryRun costs, and what it must not cost ----


def test_a_policy_that_reads_http_brings_requests_to_a_worker_and_enforces_nothing_there() -> None:
    here = cart(trying("no-delete", Action.DENY, DELETE))
    assert here.rung is Rung.PROXY
    assert destination_flags(here) == DestFlag.PROXY | DestFlag.FRONTEND
    assert not judges_requests(here), "direct connections would be ended"


@pytest.mark.parametrize(("path", "would"), [("/x/../admin", True), ("/%61dmin", True), ("/x/../b", False)])
def test_a_path_is_judged_in_its_normal_form_and_forwarded_as_it_came(path: str, would: bool) -> None:
    here = cart(trying("no-admin", Action.DENY, ADMIN))
    assert not here.judges_paths
    assert ask(here, path=path).would == (((WOULD_DENY, "shop/no-admin"),) if would else ())


def test_a_path_without_a_normal_form_counts_as_denied_since_it_would_be_refused() -> None:
    answer = ask(cart(trying("no-delete", Action.DENY, DELETE), trying("no-admin", Action.DENY, ADMIN)), path="/a%2Fb")
    assert (answer.status, answer.would) == (0, ((WOULD_DENY, "shop/no-admin"),))


def test_http_that_nobody_reads_would_be_denied_at_connect() -> None:
    here = cart(trying("no-delete", Action.DENY, DELETE), protocol=Protocol.OPAQUE)
    verdict = network_verdict(here, WEB)
    assert (verdict.denied, verdict.would) == (False, ((WOULD_DENY, "shop/no-delete"),))


def test_where_nothing_would_be_denied_the_ready_made_decision_is_handed_out() -> None:
    """No object is made for it: that is what a request pays for."""
    judge = Judge(cart(trying("no-delete", Action.DENY, DELETE)), compile_regex)
    head = RequestHead("GET", "/", "", "cart", ())
    assert judge.decide(WEB, WEB.addresses[0], head, 0.0) is judge.decide(WEB, WEB.addresses[0], head, 0.0)
