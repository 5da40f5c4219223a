"""One request seen twice: by `explain` before it is sent, by `observe` while it passes."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from typing import IO, Any

from demo.clients import Clients
from demo.shop import CATALOG, Shop
from demo.story import Story
from tests.testbed import Agent

Record = dict[str, Any]


def explain(story: Story, agent: Agent, caller: str, to: str, path: str) -> str:
    """Shows what explain says; returns it."""
    words = ("explain", "--from", caller, "--to", to, "--path", path)
    story.command(*words)
    told = agent.cli(*words).stdout
    story.show(told)
    return told


def observe(story: Story, shop: Shop, agent: Agent, clients: Clients, path: str) -> Record:
    """Sends one request while `observe -f` runs; returns its record, {} if none was shown within some seconds."""
    words = ("observe", "-f", "--from", "shop/web-1", "--path", path)
    story.command(*words)
    argv = agent.cli_argv(*words, "-o", "json")
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    lines: queue.Queue[bytes] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines))
    reader.start()
    try:
        process.stderr.readline()  # "watching": from now on every request is shown
        clients.curl(shop["web-1"], CATALOG, path)
        record: Record = json.loads(lines.get(timeout=5))
    except queue.Empty:
        return {}
    finally:
        process.terminate()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()
    story.show(json.dumps(record))
    return record


def _read(stream: IO[bytes], lines: queue.Queue[bytes]) -> None:
    for line in stream:
        lines.put(line)
