from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable

import pytest
import yaml

from nodeagent.agent import observe_stream
from nodeagent.agent.settings import admin_socket
from tests.cli.conftest import Run
from tests.cli.fake_agent import RECORD, FakeAgent


def when_watched(agent: FakeAgent, action: threading.Thread) -> threading.Thread:
    """Starts `action` once a stream is open."""

    def wait() -> None:
        deadline = time.monotonic() + 5
        while not agent.api.observers.watching and time.monotonic() < deadline:
            time.sleep(0.01)
        action.start()
        action.join()

    waiter = threading.Thread(target=wait)
    waiter.start()
    return waiter


def test_one_request_is_one_line(ask: Run) -> None:
    result = ask("observe")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "12:00:00.000  shop/web-1 -> shop/cart:80  GET /items  200  1.5ms  route=shop/cart  rule=canary\n"
    )


def test_programs_get_a_record_a_line_or_a_document(ask: Run, agent: FakeAgent) -> None:
    agent.api.records = [RECORD, {**RECORD, "status": 403}]
    lines = ask("observe", "-o", "json").stdout.splitlines()
    documents = list(yaml.safe_load_all(ask("observe", "-o", "yaml").stdout))
    assert [json.loads(line) for line in lines] == documents
    assert [(item["version"], item["status"]) for item in documents] == [("v1", 200), ("v1", 403)]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--from", "shop"], 1),
        (["--from", "batch", "--from", "shop/web-1"], 1),
        (["--to", "cart.shop", "--method", "get", "--path", "/it", "--status", "2+", "--verdict", "allowed"], 1),
        (["--to", "cart", "--verdict", "denied"], 0),
        (["--status", "404", "--status", "5+"], 0),
    ],
)
def test_filters_are_any_of_one_option_and_all_of_different_ones(ask: Run, filters: list[str], found: int) -> None:
    result = ask("observe", *filters)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == found
    assert bool(result.stderr) is not bool(found)


def test_only_the_last_ones_are_shown(ask: Run, agent: FakeAgent) -> None:
    agent.api.records = [{**RECORD, "path": f"/{number}"} for number in range(30)]
    shown = ask("observe", "--last", "2", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["path"] for line in shown] == ["/28", "/29"]


def test_nothing_found_is_said_on_stderr_with_what_to_do(ask: Run, agent: FakeAgent) -> None:
    agent.api.records = []
    result = ask("observe")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nodeagent observe -f" in result.stderr


def ask_for_stream(agent: FakeAgent) -> socket.socket:
    """`GET /v1/observe?follow=1`, with nothing read of the answer."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(str(admin_socket(agent.run_dir)))
    connection.sendall(b"GET /v1/observe?follow=1 HTTP/1.1\r\nHost: agent\r\n\r\n")
    return connection


def test_the_head_of_a_followed_stream_is_sent_once_the_workers_observe_and_not_before(agent: FakeAgent) -> None:
    agent.api.confirmed.clear()
    with ask_for_stream(agent) as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5)
        agent.api.confirmed.set()
        received = b""
        while b"watching (filters: none)" not in received:  # with no request at all
            received += connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 200 OK")
        agent.publish({**RECORD, "path": "/right-after"})
        while b"/right-after" not in received:
            received += connection.recv(65536)


def test_a_watcher_that_left_before_the_head_was_sent_is_forgotten(agent: FakeAgent) -> None:
    agent.api.confirmed.clear()
    with ask_for_stream(agent):
        wait_until(lambda: agent.api.observers.watching)
    agent.api.confirmed.set()
    agent.publish(RECORD)  # written to nobody
    wait_until(lambda: not agent.api.observers.watching)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_filter_that_makes_no_sense_is_wrong_usage(ask: Run) -> None:
    result = ask("observe", "--status", "ok")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "neither a code like 404" in result.stderr


def test_a_followed_stream_shows_what_comes_is_never_silent_and_says_when_the_agent_ends(
    ask: Run, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe_stream, "SILENCE_SECONDS", 0.2)

    def live() -> None:
        agent.publish({**RECORD, "path": "/now"})
        time.sleep(0.4)
        agent.stop()

    waiter = when_watched(agent, threading.Thread(target=live))
    result = ask("observe", "-f", "--path", "/now")
    waiter.join()
    assert "GET /now" in result.stdout
    assert result.stderr.startswith("watching (filters: --path /now)")
    assert "0 matching requests" in result.stderr
    assert "--path /now" in result.stderr
    assert "Nobody is enrolled." in result.stderr
    assert re.search(r"the agent .*ended", result.stderr)
    assert result.exit_code == 3
