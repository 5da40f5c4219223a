"""Which memory limit is ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.agent.host_limits import memory_limit

MIB = 1024 * 1024
V1 = "4:cpu,memory:/kubepods/pod1/agent\n0::/kubepods/pod1/agent\n"


def own(root: Path, **limits: str) -> Path:
    """Our cgroup three levels down; limits by level."""
    path = root
    for level in ("kubepods", "pod1", "agent"):
        path /= level
        path.mkdir(parents=True)
        if level in limits:
            (path / "memory.max").write_text(limits[level] + "\n")
    return path


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, None),
        ({"agent": "max"}, None),
        ({"agent": str(64 * MIB)}, 64 * MIB),
        ({"agent": "max", "pod1": str(512 * MIB)}, 512 * MIB),
        ({"agent": str(600 * MIB), "pod1": str(512 * MIB), "kubepods": str(4096 * MIB)}, 512 * MIB),
    ],
)
def test_the_lowest_limit_above_us_is_ours(tmp_path: Path, limits: dict[str, str], expected: int | None) -> None:
    assert memory_limit(own(tmp_path, **limits), "0::/\n", tmp_path) == expected


@pytest.mark.parametrize(("text", "expected"), [(str(256 * MIB), 256 * MIB), (str((1 << 63) - 4096), None)])
def test_where_cgroup_v1_accounts_for_memory_its_limit_counts(tmp_path: Path, text: str, expected: int | None) -> None:
    place = tmp_path / "memory" / "kubepods" / "pod1" / "agent"
    place.mkdir(parents=True)
    (place / "memory.limit_in_bytes").write_text(text)
    assert memory_limit(own(tmp_path), V1, tmp_path) == expected
