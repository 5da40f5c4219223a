"""The testbed keeps its promises: pods reach each other, two beds do not meet, nothing stays."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leftovers
from tests.testbed import Pod, Testbed
from tests.testbed.metrics import Metrics


@pytest.fixture
def bed() -> Iterator[Testbed]:
    with Testbed() as testbed:
        yield testbed


def curl(bed: Testbed, pod: Pod, *arguments: str) -> str:
    done = bed.run(pod, ["curl", "-sS", "--max-time", "5", *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pods_reach_each_other_over_both_families(bed: Testbed) -> None:
    web, catalog = bed.add_pod("shop", "web"), bed.add_pod("shop", "catalog")
    bed.serve(catalog)
    for address in (catalog.ipv4, f"[{catalog.ipv6}]"):
        assert json.loads(curl(bed, web, f"http://{address}:8080/a"))["pod"] == "catalog"


def test_processes_of_a_pod_are_in_its_cgroup_and_namespace(bed: Testbed) -> None:
    web = bed.add_pod("shop", "web")
    said = bed.run(web, ["sh", "-c", "cat /proc/self/cgroup; stat -Lc %i /proc/self/ns/net"]).stdout
    assert f"0::/{bed.tag}/{web.cgroup.name}\n" in said
    assert said.splitlines()[-1] == str(os.stat(web.netns).st_ino)


def test_echo_answers_status_delay_chunks_and_counts(bed: Testbed) -> None:
    pod = bed.add_pod("shop", "web")
    bed.serve(pod)
    base = f"http://{pod.ipv4}:8080"
    assert curl(bed, pod, "-o", "/dev/null", "-w", "%{http_code}", f"{base}/status/418") == "418"
    assert curl(bed, pod, "-o", "/dev/null", "-w", "%{http_code}", f"{base}/status/204") == "204"
    chunked = curl(bed, pod, "-H", "transfer-encoding: chunked", "-d", "hello", f"{base}/x?delay=0.01")
    assert json.loads(chunked)["body_bytes"] == 5
    assert len(curl(bed, pod, f"{base}/bytes/100000")) == 100000
    assert json.loads(curl(bed, pod, f"{base}/count"))["requests"] == 4


def test_two_testbeds_at_once_do_not_meet_even_with_the_same_addresses() -> None:
    with Testbed() as one, Testbed() as two:
        for bed in (one, two):
            bed.serve(bed.add_pod("shop", "web"))
            assert bed.pods[0].ipv4 == "198.18.0.2"
        assert one.cgroup != two.cgroup
        assert one.bpffs != two.bpffs


def test_a_failing_user_leaves_nothing_behind() -> None:
    before = leftovers.snapshot(os.environ[leftovers.SESSION_VARIABLE])
    bed = Testbed()
    with contextlib.suppress(ZeroDivisionError), bed:
        bed.serve(bed.add_pod("shop", "web"))
        bed.popen(bed.pods[0], ["sleep", "1000"])
        raise ZeroDivisionError
    assert [name for name in leftovers.snapshot("") - before if bed.tag in name] == []


def test_sweep_spares_beds_with_a_living_owner_and_removes_orphans(bed: Testbed, tmp_path: Path) -> None:
    orphan = "import os; from tests.testbed import Testbed; bed = Testbed(); bed.__enter__(); "
    orphan += f"bed.serve(bed.add_pod('shop', 'web')); open({str(tmp_path / 'tag')!r}, 'w').write(bed.tag); os._exit(9)"
    # No pipes: the orphan's server lives on and would hold them open.
    assert subprocess.run([sys.executable, "-c", orphan], check=False, timeout=30).returncode == 9
    tag = (tmp_path / "tag").read_text()
    subprocess.run([sys.executable, "-m", "tests.testbed.sweep"], check=True, capture_output=True, timeout=30)
    names = leftovers.snapshot("")
    assert [name for name in names if f"{tag}-" in name or name.endswith(tag)] == []
    assert f"netns {bed.network.node}" in names


def test_metrics_text_is_read_with_escapes_and_summed_by_labels() -> None:
    text = '# HELP a b\na_total{x="1",y="q\\"\\\\\\n"} 2\na_total{x="2",y=""} 3.5\nb 1e3\n'
    metrics = Metrics(text)
    assert metrics.select("a_total", x="1")[0].labels["y"] == 'q"\\\n'
    assert metrics.total("a_total") == 5.5
    assert metrics.total("b") == 1000
    assert metrics.total("absent") == 0
