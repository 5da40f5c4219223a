"""The story of payment by invoice: a service that is broken in one place, then asked too much, then stalls."""

from __future__ import annotations

import time
from collections.abc import Callable

from demo.clients import Clients
from demo.shop import CATALOG, INVOICES, PAYMENTS, Shop
from demo.story import Story
from tests.testbed import Agent

REQUESTS = 40
FLOOD, ALLOWED = 100, 10  # at once, and under way as manifests/later/invoices-breaker.yaml allows
STALL = 3  # seconds that invoices takes to answer then
BREAKER = "circuit-breaker-max-parallel-requests"
POLICY = "60-invoices.yaml"  # one TrafficPolicy, which gets more to say from chapter to chapter


def retried(story: Story, shop: Shop, agent: Agent, clients: Clients) -> None:
    story.step("Retries: payment by invoice has two pods, and one of them answers every request with 503")
    shop.apply(agent, "invoices-retry.yaml", POLICY)
    seen = clients.python(shop["web-1"], INVOICES, "/invoices/{n}", REQUESTS)
    broken = shop.served("invoices-2")
    story.say(f"web asked {REQUESTS} times: {seen['codes']}; the broken pod got {broken} of the tries")
    story.claim(seen["codes"] == {"200": REQUESTS} and broken > 0, "every failed try was made good at the other pod")


def ejected(story: Story, shop: Shop, agent: Agent, clients: Clients) -> None:
    story.step("Outlier detection: three failures in a row, and the broken pod gets nothing any more")
    shop.apply(agent, "invoices-outliers.yaml", POLICY)
    clients.python(shop["web-1"], INVOICES, "/invoices/{n}", REQUESTS)
    before = shop.served("invoices-2")
    seen = clients.python(shop["web-1"], INVOICES, "/invoices/{n}", REQUESTS)
    more = shop.served("invoices-2") - before
    story.claim(
        more == 0 < before and seen["codes"] == {"200": REQUESTS}, f"of {REQUESTS} requests the broken pod got {more}"
    )
    out = _settled(lambda: int(agent.metrics().total("nodeagent_worker_ejected")), 1)
    story.claim(out == 1, f"endpoints ejected, by nodeagent_worker_ejected: {out}")


def limited(story: Story, shop: Shop, agent: Agent, clients: Clients) -> None:
    story.step("A rate limit: interns may browse the catalog three times a minute, others as they like")
    shop.apply(agent, "interns-browse-slowly.yaml")
    seen = clients.python(shop["intern-1"], CATALOG, "/items/{n}", 5)
    story.claim(seen["codes"] == {"200": 3, "429": 2}, f"intern asks 5 times: {seen['codes']}")
    code, answer = clients.curl(shop["intern-1"], CATALOG, "/items/6")
    story.show(answer.replace("\r", ""))
    wait = [line.split()[1].strip() for line in answer.splitlines() if line.startswith("retry-after:")]
    story.claim(code == "429" and len(wait) == 1 and 0 < int(wait[0]) <= 20, "429, and Retry-After says when to come")
    others = clients.python(shop["web-1"], CATALOG, "/items/{n}", 20)
    story.claim(others["codes"] == {"200": 20}, f"web is not limited: {others['codes']}")


def tried_out(story: Story, shop: Shop, agent: Agent, clients: Clients) -> None:
    story.step("A dry run: who would be refused if only web might ask for invoices?")
    shop.apply(agent, "invoices-for-web.yaml")
    web = clients.python(shop["web-1"], INVOICES, "/invoices/{n}", 3)
    intern = clients.python(shop["intern-1"], INVOICES, "/invoices/{n}", 3)
    story.claim(web["codes"] == intern["codes"] == {"200": 3}, "nobody is: web and intern, all 200")
    would = _settled(lambda: _would_deny(agent, "intern"), 3)
    story.claim(
        would == 3 and _would_deny(agent, "web") == 0,
        f'nodeagent_dry_run_total{{outcome="would-deny"}} of intern: {would}; of web: {_would_deny(agent, "web")}',
    )


def _would_deny(agent: Agent, caller: str) -> int:
    labels = {"policy": "shop/invoices-for-web", "outcome": "would-deny", "source_workload": caller}
    return int(agent.metrics().total("nodeagent_dry_run_total", **labels))


def mirrored(story: Story, shop: Shop, agent: Agent, clients: Clients) -> None:
    story.step("A mirror: the next version of invoices gets a copy of every request")
    shop.apply(agent, "invoices-mirror.yaml")
    seen = clients.python(shop["web-1"], INVOICES, "/invoices/{n}", 5)
    copies = _settled(lambda: shop.served("invoices-next-1"), 5)
    answered = set(seen["pods"])
    story.claim(
        seen["codes"] == {"200": 5} and answered == {"invoices-1"} and copies == 5,
        f"web asked 5 times and was answered by {', '.join(sorted(answered))}; invoices-next got {copies} copies",
    )


def outage(story: Story, shop: Shop, agent: Agent, clients: Clients) -> None:
    story.step(f"The outage that must not be: invoices stalls, {FLOOD} requests pile up, payments shares the proxy")
    shop.apply(agent, "invoices-breaker.yaml", POLICY)
    web = shop["web-1"]
    flood = clients.flood(web, INVOICES, f"/invoices/slow?delay={STALL}", FLOOD)
    time.sleep(0.5)
    began = time.monotonic()
    paid = clients.python(shop["intern-1"], PAYMENTS, "/balance", 200)
    took = 1000 * (time.monotonic() - began)
    still = flood.poll() is None
    answers = clients.flooded(flood, web, INVOICES)
    refused = [one for one in answers if one.reason == BREAKER and one.status == 503]
    served = [one for one in answers if one.status == 200]
    story.claim(
        (len(served), len(refused)) == (ALLOWED, FLOOD - ALLOWED),
        f"{len(served)} waited for invoices, {len(refused)} were refused with 503 {BREAKER}",
    )
    slowest = max((one.milliseconds for one in refused), default=0.0)
    story.claim(
        slowest < 1000, f"at once: the slowest refusal took {slowest:.0f} ms; invoices takes {STALL} s to answer"
    )
    story.claim(
        still and paid["codes"] == {"200": 200}, f"payments meanwhile: {paid['codes']}, 200 requests in {took:.0f} ms"
    )


def _settled(read: Callable[[], int], expected: int, seconds: float = 2.0) -> int:
    """What is read once it is as expected, or after `seconds`: counts and copies come a moment after an answer."""
    deadline = time.monotonic() + seconds
    while True:
        found = read()
        if found == expected or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
