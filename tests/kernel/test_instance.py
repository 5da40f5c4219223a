"""Attach, restart, refuse, detach: the life of an instance."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent.core.model import FailMode
from nodeagent.kernel import bpf, bpf_map, cgroups, layout, syscall
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.bytecode import Bytecode, CompileError, Program, compile_in_child
from nodeagent.kernel.hooks import HOOKS, PROGRAMS
from nodeagent.kernel.instance import ConflictError, Instance
from nodeagent.kernel.loader import KernelError
from nodeagent.kernel.maps import Guard
from tests.kernel.build import routed, service
from tests.kernel.conftest import Node


@pytest.fixture
def place() -> Iterator[Path]:
    """A cgroup beside the testbed's."""
    path = cgroups.root() / "nat-instance"
    (path / "below").mkdir(parents=True)
    try:
        yield path
    finally:
        (path / "below").rmdir()
        path.rmdir()


@pytest.fixture
def instance(place: Path, bytecode: Bytecode) -> Iterator[Instance]:
    made = Instance(place, Path("/sys/fs/bpf/nat-instance"))
    made.attach(bytecode=bytecode)
    try:
        yield made
    finally:
        made.detach()


def our_programs() -> set[int]:
    done = subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, text=True, check=True)
    return {row["id"] for row in json.loads(done.stdout) if row.get("name", "").startswith("na_")}


def test_attach_pins_everything_and_detach_leaves_nothing(place: Path, bytecode: Bytecode) -> None:
    before = our_programs()
    made = Instance(place, Path("/sys/fs/bpf/nat-instance"))
    assert not made.is_attached()
    made.attach(bytecode=bytecode)
    assert made.is_attached()
    assert len(our_programs() - before) == len(PROGRAMS)
    assert {path.name for path in made.layout.progs.iterdir()} == {program.program for program in PROGRAMS}
    assert {path.name for path in made.layout.links.iterdir()} == {hook.name for hook in HOOKS}
    made.detach()
    assert not made.is_attached()
    assert not made.layout.bpffs.exists()
    assert our_programs() <= before
    made.detach()  # nothing to do is fine


def test_a_restart_keeps_links_and_counters_and_replaces_programs(node: Node, bytecode: Bytecode) -> None:
    vip = node.vip()
    node.configure(service("kept", vip))
    assert node.client(f"dial({vip!r}, 80)") == "ECONNREFUSED"
    links = {hook.name: node.instance.link_info(hook) for hook in HOOKS}
    node.maps.set_bypass(True)
    again = Instance(node.bed.cgroup, node.bed.bpffs)
    again.attach(bytecode=bytecode)
    with again.open_maps() as maps:
        assert maps.read_config().bypass, "a restart must not end a bypass"
        maps.set_bypass(False)
        rows = [row for row in maps.connections() if row.destination == "shop/kept:80"]
    assert [(row.outcome, row.opened) for row in rows] == [(Outcome.NO_ENDPOINT, 1)]
    for hook in HOOKS:
        assert again.link_info(hook).cgroup_id == links[hook.name].cgroup_id
        assert again.link_info(hook).prog_id != links[hook.name].prog_id
    assert node.client(f"dial({vip!r}, 80)") == "ECONNREFUSED"
    assert node.counts("shop/kept:80") == {Outcome.NO_ENDPOINT: 2}


def test_no_connect_slips_past_while_programs_are_replaced(node: Node, bytecode: Bytecode) -> None:
    """An unhooked connect to the service would not fail with ECONNREFUSED at once."""
    vip = node.vip()
    node.configure(service("gapless", vip))
    node.client(
        "import threading\nresults, stop = [], threading.Event()\n"
        "def loop():\n"
        "    while not stop.is_set():\n"
        "        s = socket.socket()\n"
        "        s.setblocking(False)\n"
        f"        results.append(s.connect_ex(({vip!r}, 80)))\n"
        "        s.close()\n"
        "t = threading.Thread(target=loop)\nt.start()"
    )
    for _ in range(5):
        node.instance.attach(bytecode=bytecode)
    node.client("stop.set()\nt.join()")
    assert node.client("[len(results) > 100, sorted(set(results))]") == [True, [111]]


@pytest.mark.parametrize("relation", ["equals", "lies above", "lies below"])
def test_an_instance_on_related_cgroups_is_refused_by_name(
    instance: Instance, bytecode: Bytecode, relation: str
) -> None:
    ours = {"equals": instance.cgroup, "lies above": instance.cgroup / "below", "lies below": cgroups.root()}
    other = Instance(ours[relation], Path("/sys/fs/bpf/nat-instance-2"))
    with pytest.raises(ConflictError, match=rf"{relation} ours \(cgroup={instance.cgroup} bpffs=/sys/fs/bpf/nat-inst"):
        other.attach(bytecode=bytecode)
    assert not other.layout.bpffs.exists()


def test_instances_on_sibling_cgroups_do_not_touch_each_other(instance: Instance, node: Node) -> None:
    assert instance.conflicts() == []
    assert node.instance.conflicts() == []


def test_a_foreign_program_on_a_hook_is_listed(instance: Instance, bytecode: Bytecode, place: Path) -> None:
    # mov r0, 1; exit - what anyone else's hook might be
    fd = bpf.prog_load("foreigner", 18, b"\xb7\0\0\0\1\0\0\0\x95\0\0\0\0\0\0\0", 10)
    import os

    target = os.open(place, os.O_RDONLY)
    link = bpf.link_create(fd, target, 10)
    try:
        found = [(program.cgroup, program.hook, program.name) for program in instance.foreign_programs()]
        assert found == [(place, "connect4", "foreigner")]
        assert instance.conflicts() == []
        assert instance.others_come_last()
    finally:
        for number in (link, target, fd):
            os.close(number)


def test_a_program_that_the_verifier_refuses_is_named_and_changes_nothing(place: Path, bytecode: Bytecode) -> None:
    broken = Program("na_connect6", b"\x95\0\0\0\0\0\0\0", ())  # exit without a return value
    programs = tuple(broken if p.name == broken.name else p for p in bytecode.programs)
    made = Instance(place, Path("/sys/fs/bpf/nat-instance"))
    try:
        with pytest.raises(KernelError, match=r"(?s)na_connect6 \(EACCES\).*R0 !read_ok.*report it"):
            made.attach(bytecode=replace(bytecode, programs=programs))
        assert not made.is_attached()
        target = bpf_programs(place)
        assert target == []
    finally:
        made.detach()


def bpf_programs(cgroup: Path) -> list[int]:
    import os

    fd = os.open(cgroup, os.O_RDONLY)
    try:
        return [number for hook in HOOKS for number in bpf.prog_query(fd, hook.attach_type)]
    finally:
        os.close(fd)


def test_pins_outside_bpffs_are_refused_with_the_mount_command(place: Path, bytecode: Bytecode, tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"mount -t bpf bpf"):
        Instance(place, tmp_path / "pins").attach(bytecode=bytecode)
    assert list(tmp_path.iterdir()) == []


def test_a_pinned_map_of_another_shape_is_refused(instance: Instance, bytecode: Bytecode) -> None:
    path = instance.layout.map(layout.PODS)
    path.unlink()
    fd = bpf_map.map_create(bpf_map.MapSpec("pods", bpf_map.MAP_TYPE_HASH, 8, 4, 16, 0))
    syscall.obj_pin(path, fd)
    bpf_map.Map.from_fd(fd).close()
    with pytest.raises(KernelError, match="another shape"):
        instance.attach(bytecode=bytecode)


def test_a_source_that_does_not_compile_is_reported_with_its_file(sources: Path, tmp_path: Path) -> None:
    for path in sources.rglob("*.[ch]"):
        target = tmp_path / path.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    broken = tmp_path / "connect4.c"
    broken.write_text(broken.read_text().replace("int action;", "int action"))
    with pytest.raises(CompileError, match=r"connect4\.c:\d+:\d+: error"):
        compile_in_child(tmp_path)


def test_a_full_originals_map_meets_the_fail_mode(node: Node, bytecode: Bytecode) -> None:
    """The limit belongs to the map, so this needs an instance with a small one."""
    vip, port = node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(routed("full", vip, (node.server.ipv4, port)))
    node.start_worker()
    originals = node.maps.map(layout.ORIGINALS)
    filler = range(originals.spec.max_entries)
    try:
        for number in filler:
            originals.update(number.to_bytes(8, "little").ljust(originals.spec.key_size, b"\xff"), bytes(32))
        assert node.client(f"dial({vip!r}, 80)")[0] == [vip, 80]
        node.change_pod(fail_mode=FailMode.CLOSED)
        assert node.client(f"dial({vip!r}, 80)") == "ECONNREFUSED"
    finally:
        node.change_pod(fail_mode=FailMode.OPEN)
        node.maps.sweep_originals(2**62)
    assert node.counts("shop/full:80") == {Outcome.BYPASS_FULL: 1, Outcome.REFUSED_FULL: 1}
    assert node.client(f"dial({vip!r}, 80)")[0] == [vip, 80]
    assert node.counts("shop/full:80")[Outcome.PROXIED] == 1


def test_when_a_hook_cannot_be_swapped_all_keep_the_programs_they_had(
    instance: Instance, bytecode: Bytecode, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {hook.name: instance.link_info(hook) for hook in HOOKS}
    pinned = program_ids(instance.layout.progs)
    swapped: list[int] = []

    def until_the_last(link: int, program: int) -> None:
        swapped.append(program)
        if len(swapped) == len(HOOKS):
            raise syscall.BpfError(5, "no")
        update(link, program)

    update = bpf.link_update
    monkeypatch.setattr(bpf, "link_update", until_the_last)
    with pytest.raises(syscall.BpfError):
        instance.attach(bytecode=bytecode)
    monkeypatch.undo()
    assert {hook.name: instance.link_info(hook) for hook in HOOKS} == before
    assert program_ids(instance.layout.progs) == pinned >= {info.prog_id for info in before.values()}


def program_ids(folder: Path) -> set[int]:
    return {bpf.prog_info(fd).prog_id for fd in opened(folder)}


def opened(folder: Path) -> Iterator[int]:
    import os

    for path in folder.iterdir():
        fd = syscall.obj_get(path)
        try:
            yield fd
        finally:
            os.close(fd)


def test_a_bypass_set_while_another_writes_the_settings_is_not_lost(node: Node) -> None:
    config = node.maps.read_config()  # as read before the bypass was switched on
    node.maps.set_bypass(True)
    node.maps.write_config(config)
    assert node.maps.read_config().bypass


def test_several_cgroups_can_be_exempt_and_each_once(node: Node) -> None:
    vip = node.vip()
    node.configure(service("exempt", vip))
    place = node.client("open('/proc/self/cgroup').read().partition('0::/')[2].strip()")
    own = cgroups.cgroup_id(cgroups.root() / place)
    assert node.client(f"dial({vip!r}, 80)") == "ECONNREFUSED"
    assert node.maps.exempt(own)
    assert node.maps.exempt(own + 1)
    assert not node.maps.exempt(own)
    try:
        assert node.client(f"dial({vip!r}, 80)") != "ECONNREFUSED"
        assert node.maps.exempt_cgroups() == {own, own + 1}
    finally:
        node.maps.end_exemption(own + 1)
        assert node.maps.end_exemption(own)
    assert node.client(f"dial({vip!r}, 80)") == "ECONNREFUSED"


def test_after_a_detach_nobody_is_taken_for_a_new_pod_until_a_configuration_says_so(instance: Instance) -> None:
    with instance.open_maps() as maps:
        maps.write_guard(Guard(4711, refuse=True, refuse_away=True))
        instance.detach_links()
        assert not any(maps.map(layout.GUARD).lookup(bytes(4)) or b"")
