"""`python -m demo`, as root: builds the shop, tells the story, takes everything down, says whether all held."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import types

from demo import chapters, traffic
from demo.clients import Clients
from demo.shop import Shop
from demo.story import Story
from tests import leftovers
from tests.testbed import Testbed


def main() -> int:
    if os.geteuid() != 0:
        print("The demo makes network namespaces and loads BPF programs: run it as root.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    session = os.environ.setdefault(leftovers.SESSION_VARIABLE, secrets.token_hex(8))
    before = leftovers.snapshot(session)
    story = Story()
    bed = Testbed()
    try:
        with bed:
            _tell(story, bed)
    except KeyboardInterrupt:
        print("\nInterrupted; everything was taken down again.", file=sys.stderr)
        return 130
    _check_leftovers(story, bed.tag, session, before)
    return _verdict(story)


def _tell(story: Story, bed: Testbed) -> None:
    story.step("A node in a box: ten pods (network namespaces), seven Services, an agent")
    shop = Shop(bed)
    clients = Clients(bed)
    story.say("pods: " + ", ".join(pod.key for pod in bed.pods))
    began = story.seconds()
    agent = bed.start_agent("--drain", "2")
    story.say(
        f"the agent compiled, loaded and attached its BPF programs in {story.seconds() - began:.1f} s and is ready"
    )
    chapters.canary(story, shop, clients)
    chapters.denied_by_the_proxy(story, shop, clients)
    chapters.denied_by_the_kernel(story, shop, clients)
    chapters.outsiders(story, shop)
    traffic.retried(story, shop, agent, clients)
    traffic.ejected(story, shop, agent, clients)
    traffic.limited(story, shop, agent, clients)
    traffic.tried_out(story, shop, agent, clients)
    traffic.mirrored(story, shop, agent, clients)
    traffic.outage(story, shop, agent, clients)
    chapters.load(story, shop, clients)
    chapters.counts(story, agent, clients, "")
    chapters.restart(story, shop, agent, clients)
    chapters.counts(story, agent, clients, ", after the restart and 101 more requests")
    chapters.followed(story, shop, agent, clients)
    chapters.status(story, agent)
    story.step("Taking it all down")
    agent.stop()
    story.command("uninstall")
    story.show(agent.cli("uninstall").stderr)
    story.claim(not bed.bpffs.exists() or not any(bed.bpffs.rglob("*")), "uninstall left no pin")


def _check_leftovers(story: Story, tag: str, session: str, before: frozenset[str]) -> None:
    """Only what this run made: other things may come and go on a machine that is in use."""
    new = leftovers.wait_until_clean(before, session)
    left = [name for name in new if tag in name or name.startswith("process ")]
    story.claim(not left, f"nothing is left: no pin, namespace, cgroup, mount, process {left or ''}".rstrip())


def _verdict(story: Story) -> int:
    total = story.held + len(story.failed)
    print(f"\ndemo: {story.held} of {total} claims hold, in {story.seconds():.0f} s")
    for text in story.failed:
        print(f"  did not hold: {text}", file=sys.stderr)
    return 1 if story.failed else 0


def _interrupt(_number: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
