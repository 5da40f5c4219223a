"""Programs that were compiled before: they load and behave as those compiled at start, and a wrong file is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeagent.agent import preflight
from nodeagent.agent.preflight import Level
from nodeagent.cli.main import cli
from nodeagent.kernel import bytecode_file
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.bytecode import Bytecode, from_json, to_json
from nodeagent.kernel.bytecode_file import BytecodeFileError, Stamp, load, save
from nodeagent.kernel.hooks import HOOKS
from nodeagent.kernel.instance import Instance
from tests.kernel.build import service
from tests.kernel.conftest import Node

HERE = Stamp.here()


@pytest.fixture
def saved(tmp_path: Path, bytecode: Bytecode) -> Path:
    return save(tmp_path, bytecode, HERE)


def changed(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refusal(path: Path, stamp: Stamp = HERE) -> str:
    with pytest.raises(BytecodeFileError) as caught:
        load(path.parent, stamp)
    assert str(path) in caught.value.what
    assert caught.value.why
    assert "nodeagent bpf compile" in caught.value.fix
    return caught.value.what


def test_the_command_writes_what_a_compiler_at_start_would_have_made(tmp_path: Path, bytecode: Bytecode) -> None:
    directory = tmp_path / "new"
    result = CliRunner().invoke(cli, ["bpf", "compile", "--into", str(directory)])
    assert result.exit_code == 0, result.output
    code = load(directory, HERE)
    assert {p.name: len(p.insns) for p in code.programs} == {p.name: len(p.insns) for p in bytecode.programs}
    assert code.maps == bytecode.maps
    assert [path.name for path in directory.iterdir()] == [bytecode_file.NAME]


def test_loaded_programs_go_into_the_hooks_and_judge_as_before(node: Node, saved: Path) -> None:
    vip = node.vip()
    node.configure(service("from-file", vip))
    assert node.client(f"dial({vip!r}, 80)") == "ECONNREFUSED"
    before = {node.instance.link_info(hook).prog_id for hook in HOOKS}
    Instance(node.bed.cgroup, node.bed.bpffs).attach(bytecode=load(saved.parent, HERE))
    assert not before & {node.instance.link_info(hook).prog_id for hook in HOOKS}
    assert node.client(f"dial({vip!r}, 80)") == "ECONNREFUSED"
    assert node.counts("shop/from-file:80") == {Outcome.NO_ENDPOINT: 2}


def test_the_machine_is_fit_without_a_compiler_if_the_file_is(saved: Path) -> None:
    [finding] = preflight.check_bytecode(saved.parent)
    assert finding.level is Level.OK
    saved.unlink()
    [finding] = preflight.check_bytecode(saved.parent)
    assert (finding.level, finding.category) == (Level.ERROR, "prerequisites")
    assert "No such file" in finding.what


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("layout", 1, "was made for map layout 1, not "),
        ("layout", str(HERE.layout), "was made for map layout"),
        ("kernel", "5.19.0-other", "was made for Linux 5.19.0-other, not "),
        ("sources", "0" * 64, "was made for BPF sources with digest 0000"),
        ("machine", "riscv64", "was made for machine riscv64, not "),
        ("format", "nodeagent-bytecode/2", "has the format 'nodeagent-bytecode/2', and this version reads"),
        ("digest", "0" * 64, "has been damaged"),
        ("code", None, "has no code"),
        ("code", "{}", "has been damaged"),
    ],
)
def test_a_file_for_something_else_is_refused_by_what_it_was_made_for(
    saved: Path, field: str, value: object, words: str
) -> None:
    changed(saved, **{field: value})
    assert words in refusal(saved)


def test_all_differences_are_named_at_once(saved: Path) -> None:
    changed(saved, layout=1, kernel="5.19.0")
    assert "map layout 1, not" in (told := refusal(saved))
    assert "Linux 5.19.0, not" in told


@pytest.mark.parametrize("field", sorted(asdict(HERE)))
def test_a_file_that_does_not_say_what_it_was_made_for_is_refused(saved: Path, field: str) -> None:
    content = json.loads(saved.read_text())
    del content[field]
    saved.write_text(json.dumps(content))
    assert "None, not" in refusal(saved)


@pytest.mark.parametrize("text", ["", "[]", "7", "null", '{"format"', "\x00" * 10])
def test_what_is_no_such_file_at_all_is_refused(saved: Path, text: str) -> None:
    saved.write_text(text)
    assert refusal(saved)


def test_a_file_without_a_bound_is_not_read(saved: Path) -> None:
    saved.write_bytes(b" " * (bytecode_file.MAX_BYTES + 1))
    assert "is larger than" in refusal(saved)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_a_file_that_is_cut_off_or_has_a_changed_byte_gives_an_error_or_the_same_programs(
    saved: Path, bytecode: Bytecode, data: st.DataObject
) -> None:
    whole = bytearray(json.dumps(json.loads(saved.read_text())).encode())
    size = data.draw(st.integers(0, len(whole)))
    if data.draw(st.booleans()) and size < len(whole):
        whole[size] ^= data.draw(st.integers(1, 255))
    else:
        del whole[size:]
    other = saved.parent / "other"
    other.mkdir(exist_ok=True)
    (other / bytecode_file.NAME).write_bytes(whole)
    with contextlib.suppress(BytecodeFileError):
        assert load(other, HERE) == bytecode


def _without_a_program(code: Bytecode) -> Bytecode:
    return replace(code, programs=code.programs[1:])


def _with_half_an_instruction(code: Bytecode) -> Bytecode:
    first = code.programs[0]
    return replace(code, programs=(replace(first, insns=first.insns[:-4]), *code.programs[1:]))


def _with_a_place_outside(code: Bytecode) -> Bytecode:
    first = code.programs[0]
    outside = ((len(first.insns), code.maps[0].name),)
    return replace(code, programs=(replace(first, relocations=outside), *code.programs[1:]))


def _with_an_unknown_map(code: Bytecode) -> Bytecode:
    return replace(code, maps=())


@pytest.mark.parametrize(
    "spoil", [_without_a_program, _with_half_an_instruction, _with_a_place_outside, _with_an_unknown_map]
)
def test_code_that_does_not_hang_together_is_refused_though_its_digest_is_right(
    tmp_path: Path, bytecode: Bytecode, spoil: Callable[[Bytecode], Bytecode]
) -> None:
    assert refusal(save(tmp_path, spoil(bytecode), HERE))


def test_code_of_another_shape_is_refused_though_its_digest_is_right(saved: Path, bytecode: Bytecode) -> None:
    text = json.dumps({**json.loads(to_json(bytecode)), "maps": [{"name": "only"}]})
    with pytest.raises(TypeError):
        from_json(text)
    changed(saved, code=text, digest=bytecode_file._digest(text))
    assert "cannot read" in refusal(saved)


def test_sources_with_any_other_text_have_another_digest(tmp_path: Path, sources: Path) -> None:
    for path in sources.glob("*.[ch]"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert bytecode_file.sources_digest(tmp_path) == bytecode_file.sources_digest(sources)
    (tmp_path / "judge.h").write_text((tmp_path / "judge.h").read_text() + "\n")
    assert bytecode_file.sources_digest(tmp_path) != bytecode_file.sources_digest(sources)
