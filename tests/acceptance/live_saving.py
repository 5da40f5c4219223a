"""Acceptance 12 before a live agent: a policy's file is saved, broken files come, a Service is missing."""

from __future__ import annotations

import json
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

from tests.acceptance import in_force, saving
from tests.acceptance import shop as shops
from tests.acceptance.figures import lines
from tests.acceptance.manifests_broken import BrokenManifest
from tests.acceptance.shop import Shop
from tests.testbed import manifests

POLICY = "40-deny.yaml"
LONGEST_PAUSE = 0.01  # between two steps of a save
LOAD_S = 5.0  # of one run of the clients


@dataclass(frozen=True)
class Saved:
    saves: int
    generations: int  # configurations that the agent compiled meanwhile
    requests: int
    connects: int
    unpoliced: int  # requests answered other than 403, connects that ended other than with EPERM


def saved_under_load(shop: Shop, style: str, saves: int, seed: int) -> Saved:
    """Saves the file of an L7 and an L4 DENY again and again while the denied caller tries on.

    It asks on kept and on new connections, and connects where the kernel denies it.
    """
    if style == "configmap":
        _become_a_volume(shop.bed.manifests.path)
    pauses = random.Random(seed)
    path = shop.bed.manifests.path / POLICY
    shop.agent.start()
    first = shop.get(shop.web, shop.url(1))
    assert first == 403, f"ready, but the denied caller was answered {first}: {shop.agent.metrics().text}"
    before = in_force.status(shop)["config"]["generation"]
    number = requests = connects = unpoliced = 0
    while number < saves:
        with Load(shop, LOAD_S) as load:
            while number < saves and not load.ends_soon():
                number += 1
                for _ in saving.STYLES[style](path, policy_text(number)):
                    time.sleep(pauses.uniform(0, LONGEST_PAUSE))
        requests += load.requests
        connects += load.connects
        unpoliced += load.unpoliced
    in_force.wait_until(lambda: f"also-{saves}" in _policies(shop), 5, "the last save is in force")
    generations = in_force.status(shop)["config"]["generation"] - before
    return Saved(saves, generations, requests, connects, unpoliced)


class Load:
    """The denied caller for some seconds: four clients that ask, on kept and on new connections; one that connects."""

    def __init__(self, shop: Shop, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._clients = [
            shop.program(shop.web, "requester", shop.url(1), seconds, 2, "--interval", 0.001),
            shop.program(shop.web, "requester", shop.url(1), seconds, 2, "--interval", 0.001, "--reconnect"),
            shop.program(shop.web, "connector", shop.bed.vip(4), 80, int(seconds * 500), 500, "--lines"),
        ]
        self.requests = self.connects = self.unpoliced = 0

    def ends_soon(self) -> bool:
        return time.monotonic() > self._end - 0.5

    def __enter__(self) -> Self:
        time.sleep(0.5)  # the programs start
        return self

    def __exit__(self, *_: object) -> None:
        kept, new, connects = (lines(client.communicate(timeout=60)[0]) for client in self._clients)
        self.requests, self.connects = len(kept) + len(new), len(connects)
        self.unpoliced = sum(1 for row in (*kept, *new) if row.status != "403")
        self.unpoliced += sum(1 for row in connects if row.status != "EPERM")


def policy_text(number: int) -> str:
    """The two DENYs, between others and behind a comment whose length differs each time: pieces end anywhere."""
    policies = [
        shops.deny(f"also-{number}", "raw", "nobody"),
        shops.deny("no-get", "catalog", "web", http={"methods": ["GET"]}),
        shops.deny("no-echo", "echo", "web", level="Network"),
        shops.deny("and-more", "raw", "nobody"),
    ]
    return f"# save {number} {'.' * (number * 37 % 400)}\n{yaml.safe_dump_all(policies, sort_keys=False)}"


def _policies(shop: Shop) -> set[str]:
    answer = json.loads(shop.agent.admin("/v1/objects/policies")[1])
    return {item["name"] for item in answer["items"]}


def _become_a_volume(directory: Path) -> None:
    """The same files, as a ConfigMap volume has them."""
    texts = {file.name: file.read_text(encoding="utf-8") for file in directory.iterdir()}
    shutil.rmtree(directory)
    directory.mkdir()
    saving.make_volume(directory, texts)


# -- broken files -----------------------------------------------------------------------------------


def said_about(shop: Shop, broken: BrokenManifest) -> list[str]:
    """What `status` says while the broken file lies there, and nothing before and after."""
    assert in_force.status(shop)["config"]["errors"] == []
    path = shop.bed.manifests.path / broken.file
    beside = path.with_name(f".{broken.file}.new")
    beside.write_bytes(broken.content)
    beside.rename(path)
    in_force.wait_until(lambda: errors(shop) != [], 5, f"{broken.name} is reported")
    found = errors(shop)
    path.unlink()
    in_force.wait_until(lambda: errors(shop) == [], 5, f"{broken.name} is forgotten with its file")
    return found


def errors(shop: Shop) -> list[str]:
    found: list[str] = in_force.status(shop)["config"]["errors"]
    return found


def unsaid(broken: BrokenManifest, found: list[str]) -> list[str]:
    """What is wrong with the report: it must be one line that names file, field and fault."""
    if len(found) != 1:
        return [f"{len(found)} lines: {found}"]
    [text] = found
    missing = [part for part in (broken.file, broken.field, *broken.words) if part not in text]
    return [*(f"does not say {part!r}: {text}" for part in missing), *(["several lines"] if "\n" in text else [])]


def rest_in_force(shop: Shop) -> bool:
    """Of `policy_text`: the DENY for web holds, others are served."""
    return shop.get(shop.web, shop.url(1)) == 403 and shop.get(shop.vault, shop.url(1)) == 200


# -- a missing Service ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Missing:
    state: str  # of the route
    parents: list[str]  # Services that the route is in force for
    requests: int
    failed: int  # answered 500
    other: int  # neither 200 nor 500


def missing_service(shop: Shop, share: int, seconds: float) -> Missing:
    """A route that gives `share` of 100 to a Service that does not exist."""
    backends = [manifests.backend("catalog-v1", 100 - share), manifests.backend("not-there", share)]
    route = manifests.http_route("shop", "catalog", "catalog", [{"backendRefs": backends}])
    in_force.apply(shop, lambda: shop.bed.manifests.write("30-route.yaml", route))
    rows = lines(shop.output(shop.web, "requester", shop.url(1), seconds, 4, "--interval", 0.001))
    answer = json.loads(shop.agent.admin("/v1/objects/routes?name=catalog")[1])
    failed = sum(1 for row in rows if row.status == "500")
    other = sum(1 for row in rows if row.status not in ("200", "500"))
    [row] = answer["items"]
    return Missing(row["state"], row["parents"], len(rows), failed, other)
