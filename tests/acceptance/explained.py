"""Acceptance 13: what `explain` says of a request, and what becomes of it when it is sent."""

from __future__ import annotations

import collections
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from nodeagent.admin.client import AdminClient
from tests.acceptance import in_force
from tests.acceptance import shop as shops
from tests.acceptance.random_shop import HOLLOW, Dice, Question
from tests.acceptance.shop import HERE, Shop

Json = dict[str, Any]


@dataclass
class Compared:
    pairs: int = 0
    kinds: collections.Counter[str] = field(default_factory=collections.Counter)  # what was served
    routes: int = 0  # outcomes whose route was compared
    wrong: list[str] = field(default_factory=list)


def compare(shop: Shop, seed: int, configurations: int, requests: int) -> Compared:
    """Random configurations, with random requests to each: first explained, then sent, then looked up in `observe`."""
    dice = Dice(shop, random.Random(seed))
    result = Compared()
    in_force.apply(
        shop, lambda: shop.bed.manifests.write("25-hollow.yaml", *shops.service(shop.bed, HOLLOW, "hollow", []))
    )
    with observed(shop) as records:
        for number in range(configurations):
            configure(shop, dice)
            first = number * requests
            questions = [dice.question(first + index) for index in range(requests)]
            explained = [explain(shop, question) for question in questions]
            served = serve(shop, questions)
            for question, said, seen in zip(questions, explained, served, strict=True):
                judge(shop, result, question, said, seen, records)
    return result


def configure(shop: Shop, dice: Dice) -> None:
    routes = [dice.route(number) for number in range(dice.random.randint(1, 5))]
    policies = [dice.policy(number) for number in range(dice.random.randint(0, 3))]
    marker = shops.deny(f"marker-{dice.random.getrandbits(32):08x}", "echo", "nobody")  # no two are equal
    in_force.apply(shop, lambda: shop.bed.manifests.write("30-route.yaml", *routes, *policies, marker))
    unreadable = [error for error in in_force.status(shop)["config"]["errors"] if "30-route.yaml" in error]
    assert unreadable == [], "the generator made something that is not valid"


def explain(shop: Shop, question: Question) -> Json:
    return AdminClient(shop.agent.run_dir / "admin.sock").post("/v1/explain", question.explain())


def serve(shop: Shop, questions: Sequence[Question]) -> list[Json]:
    """The outcomes, in order; each caller's pod sends its own."""
    outcomes: dict[Question, Json] = {}
    for pod in (shop.web, shop.vault, shop.plain):
        own = [question for question in questions if question.caller == pod.key]
        argv = [sys.executable, "-S", str(HERE / "asker.py")]
        asker: subprocess.Popen[str] = shop.bed.popen(
            pod, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        asked = json.dumps([vars(question) for question in own])
        outcomes.update(zip(own, json.loads(asker.communicate(asked, timeout=60)[0]), strict=True))
    return [outcomes[question] for question in questions]


class Records:
    """What `observe` has written so far, by host."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def shown(self) -> dict[str, Json]:
        whole, _, _ = self._path.read_text(encoding="utf-8").rpartition("\n")
        return {record["host"]: record for record in map(json.loads, whole.splitlines()) if "host" in record}

    def of(self, host: str) -> Json:
        in_force.wait_until(lambda: host in self.shown(), 5, f"observe shows the request to {host}")
        return self.shown()[host]


@contextmanager
def observed(shop: Shop) -> Iterator[Records]:
    """`observe -f` for the length of a `with`; it shows only what passes after it has begun to watch."""
    path = shop.bed.home / "observed.ndjson"
    with path.open("wb") as file:
        process = subprocess.Popen(shop.agent.cli_argv("observe", "-f", "-o", "json"), stdout=file)
    try:
        records = Records(path)

        def shows() -> bool:
            shop.get(shop.web, shop.url(1), "-H", "Host: first.test")
            return "first.test" in records.shown()

        in_force.wait_until(shows, 10, "observe shows requests")
        yield records
    finally:
        process.terminate()
        process.wait()


# -- the comparison ---------------------------------------------------------------------------------


def judge(shop: Shop, result: Compared, question: Question, said: Json, seen: Json, records: Records) -> None:
    result.pairs += 1
    result.kinds[f"{said['rung']} {seen.get('errno') or seen.get('status') or 'connected'}"] += 1
    faults = list(disagreements(shop, said, seen))
    if said["rung"] == "proxy" and seen.get("status") not in (None, 400):  # a 400 never came to a route
        result.routes += 1
        faults += record_disagreements(said, records.of(question.host))
    if faults:
        result.wrong.append(f"{question}: {faults}; explain: {said}; served: {seen}")


def disagreements(shop: Shop, said: Json, seen: Json) -> Iterator[str]:
    """Between what was explained and what the client saw."""
    connect = said.get("connect") or {"allowed": True}
    if not connect["allowed"] or "errno" in seen:
        if seen.get("errno") != connect.get("errno"):
            yield f"connect: {connect.get('errno') or 'allowed'} was explained, {seen.get('errno') or 'allowed'} served"
    elif "status" in seen:
        expected = outcomes(shop, said)
        if not any(_is(seen, *outcome) for outcome in expected):
            yield f"one of {expected} was explained"


def outcomes(shop: Shop, said: Json) -> list[tuple[int, str, list[str]]]:
    """(status, reason, pods) that may be served."""
    dialled = [f"{said['to']['address']}:{said['to']['port']}"]  # where it goes when no endpoint is chosen
    if said["rung"] != "proxy":
        return [(200, "", _pods(shop, said.get("endpoints") or dialled))]
    request = said["request"]
    if not said.get("backends"):
        return [(request["status"], request["reason"], [])]
    return [
        (
            backend["status"] or 200,
            backend.get("reason", request["reason"]),
            _pods(shop, backend["endpoints"] or dialled),
        )
        for backend in said["backends"]
    ]


def _is(seen: Json, status: int, reason: str, pods: list[str]) -> bool:
    if status == 200:
        return seen["status"] == 200 and seen["pod"] in pods
    return bool(seen["status"] == status) and (status == 400 or seen["reason"] == reason)


def _pods(shop: Shop, endpoints: list[str]) -> list[str]:
    hosts = {ip_address(endpoint.rpartition(":")[0].strip("[]")) for endpoint in endpoints}
    return [pod.name for pod in (shop.v1, shop.v2) if hosts & {ip_address(pod.ipv4), ip_address(pod.ipv6)}]


def record_disagreements(said: Json, record: Json) -> Iterator[str]:
    """Between what was explained and what the data path itself recorded."""
    request, backends = said["request"], said.get("backends", [])
    for name in ("route", "rule") if backends else ("route", "rule", "policy"):
        if record[name] != request[name]:
            yield f"{name}: {request[name]!r} was explained, {record[name]!r} recorded"
    if backends and record["backend"] not in [backend["name"] for backend in backends]:
        yield f"backend {record['backend']!r} was recorded"
