"""The story, one claim at a time.  Every function is one step that the reader sees."""

from __future__ import annotations

import math

from demo import counting, following
from demo.clients import Clients
from demo.shop import CATALOG, LEDGER, PAYMENTS, Shop
from demo.story import Story
from tests.testbed import Agent

REQUESTS = 1000
SHARE = 0.8  # of catalog-v1, as manifests/40-canary.yaml asks


def canary(story: Story, shop: Shop, clients: Clients) -> None:
    story.step(f"An 80/20 canary: web sends {REQUESTS:,} requests to the Service catalog (python's http.client)")
    holds = _split(story, shop, clients)
    if not holds:
        story.say("A fair split lands outside 3 sigma once in 370 runs, so one repetition decides.")
        holds = _split(story, shop, clients)
    story.claim(holds, "the observed split is within 3 sigma of 80/20")


def _split(story: Story, shop: Shop, clients: Clients) -> bool:
    seen = clients.python(shop["web-1"], CATALOG, "/items/{n}", REQUESTS)
    first, second = (int(seen["pods"].get(name, 0)) for name in ("catalog-v1-1", "catalog-v2-1"))
    bound = 3 * math.sqrt(REQUESTS * SHARE * (1 - SHARE))
    off = abs(first - SHARE * REQUESTS)
    story.say(f"version 1 answered {first}, version 2 answered {second}: off by {off:.0f}, 3 sigma is {bound:.0f}")
    return first + second == REQUESTS and off <= bound


def denied_by_the_proxy(story: Story, shop: Shop, clients: Clients) -> None:
    story.step("A caller denied by an L7 rule: interns may look at payments, but not refund (curl)")
    intern = shop["intern-1"]
    code, _ = clients.curl(intern, PAYMENTS, "/balance")
    story.claim(code == "200", f"intern GET /balance: {code}")
    code, answer = clients.curl(intern, PAYMENTS, "/refunds/7", "-X", "POST")
    story.show(answer.replace("\r", ""))
    reason = "x-mesh-reason: denied" in answer.lower()
    story.claim(code == "403" and reason, f"intern POST /refunds/7: {code}, and the answer says why")
    code, _ = clients.curl(intern, PAYMENTS, "/a/../%72efunds//7", "-X", "POST", "--path-as-is")
    story.claim(code == "403", f"the same, spelled /a/../%72efunds//7 to slip past the rule: {code}")
    code, _ = clients.curl(shop["web-1"], PAYMENTS, "/refunds/8", "-X", "POST")
    story.claim(code == "200", f"web POST /refunds/8: {code}")


def denied_by_the_kernel(story: Story, shop: Shop, clients: Clients) -> None:
    story.step("A caller denied by an L4 rule: only payments may talk to the ledger; no proxy is involved")
    allowed = clients.python(shop["payments-1"], LEDGER, "/book", 5)
    story.claim(allowed["codes"] == {"200": 5}, f"payments -> ledger: {allowed['codes']}")
    denied = clients.python(shop["web-1"], LEDGER, "/book", 1)
    story.claim(denied["errors"] == {"EPERM": 1}, f"web -> ledger: connect() fails with {denied['errors']}")
    code, message = clients.curl(shop["web-1"], LEDGER, "/book")
    story.say(f"curl says: {message}")
    story.claim(code == "000", "and so it does for curl")


def outsiders(story: Story, shop: Shop) -> None:
    story.step("A pod that is not enrolled is left alone")
    address = shop["catalog-v1-1"].ipv4
    done = shop.bed.run(shop["stranger-1"], ["curl", "-sS", "--max-time", "5", f"http://{address}:8080/hello"])
    story.claim('"catalog-v1-1"' in done.stdout, f"stranger reaches catalog's pod {address}:8080 directly")
    story.say("(It is not judged either: policy is applied where a connection starts. `status` says so, too.)")


def load(story: Story, shop: Shop, clients: Clients) -> None:
    story.step("Some load: wrk sends 2,000 requests over two keep-alive connections")
    summary = clients.wrk(shop["web-1"], PAYMENTS, "/balance", 2000)
    story.show("\n".join(line for line in summary.splitlines() if "Latency " in line))


def counts(story: Story, agent: Agent, clients: Clients, when: str) -> None:
    story.step(f"/metrics against the clients' own counts{when}")
    ours, theirs = counting.settled(agent, clients)
    for caller, service, code in sorted(ours | theirs):
        key = (caller, service, code)
        story.show(f"{caller:8} -> {service:16} {code}: clients {ours[key]:5}, /metrics {theirs[key]:5}")
    story.claim(ours == theirs, f"all {len(ours)} counts are equal, {sum(ours.values()):,} requests in total")
    denied = counting.denied_connects(agent)
    story.claim(
        denied == counting.EXPECTED_DENIED, f"connects denied by the kernel: {denied:.0f}, clients saw the same"
    )


def restart(story: Story, shop: Shop, agent: Agent, clients: Clients) -> None:
    story.step("The agent is restarted: counters live in the kernel, so they go on where they were")
    before = agent.metrics().counters()
    code = agent.stop()
    story.claim(code == 0, f"the agent ended on SIGTERM with exit code {code}")
    agent.start()
    after = agent.metrics().counters()
    fallen = [name for (name, labels), value in before.items() if after.get((name, labels), 0) < value]
    story.claim(not fallen, f"none of {len(before)} counters is lower than before {sorted(set(fallen)) or ''}".rstrip())
    clients.python(shop["web-1"], CATALOG, "/items/{n}", 100)
    clients.curl(shop["intern-1"], PAYMENTS, "/refunds/9", "-X", "POST")


def followed(story: Story, shop: Shop, agent: Agent, clients: Clients) -> None:
    story.step("One request, followed live by `observe` and predicted by `explain`")
    path = "/items/followed"
    told = following.explain(story, agent, "shop/web-1", "catalog.shop:80", path)
    record = following.observe(story, shop, agent, clients, path)
    route = record.get("route", "")
    story.claim(record.get("path") == path and record.get("status") == 200, "observe showed the request")
    story.claim(bool(route) and route in told, f"both name the route {route}")
    backend = record.get("backend", "?")
    story.claim(backend in told, f"the backend that served it, {backend}, is one that explain names")


def status(story: Story, agent: Agent) -> None:
    story.step("What an operator sees")
    story.command("status")
    done = agent.cli("status", check=False)
    story.show(done.stdout + done.stderr)
    story.claim(done.returncode == 0, "status is content")
