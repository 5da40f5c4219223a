"""bpf/abi.h and nodeagent/kernel/abi.py say the same: the header is compiled with the host's cc and asked."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest

from nodeagent.core import kernel_state
from nodeagent.kernel import abi

CONSTANTS = {
    "NA_LAYOUT_VERSION": abi.LAYOUT_VERSION,
    "NA_MAX_WORKERS": abi.MAX_WORKERS,
    "NA_FAMILY_IPV4": abi.FAMILY_IPV4,
    "NA_FAMILY_IPV6": abi.FAMILY_IPV6,
    "NA_POD_FAIL_CLOSED": abi.POD_FAIL_CLOSED,
    "NA_DEST_PROXY": abi.DEST_PROXY,
    "NA_DEST_ENFORCE": abi.DEST_ENFORCE,
    "NA_DEST_REFUSE": abi.DEST_REFUSE,
    "NA_DEST_FRONTEND": abi.DEST_FRONTEND,
    "NA_DEST_RATE": abi.DEST_RATE,
    "NA_DEST_NODE": abi.DEST_NODE,
    "NA_RATE_DRY_RUN": abi.RATE_DRY_RUN,
    "NA_DIALLED_PLACES": abi.DIALLED_PLACES,
    "NA_ALLOW": abi.ALLOW,
    "NA_DENY": abi.DENY,
    "NA_AUDIT": abi.AUDIT,
    "NA_WOULD_DENY": abi.WOULD_DENY,
    "NA_SERIES_PER_WORKER": abi.SERIES_PER_WORKER,
    "NA_BUCKETS": abi.BUCKETS,
    "NA_WINDOW_SLICES": abi.WINDOW_SLICES,
    "NA_RECORD_WORDS": abi.RECORD_WORDS,
    "NA_MAX_CLAIMS": abi.MAX_CLAIMS,
    "NA_ANSWER_SHIFT": abi.ANSWER_SHIFT,
    "NA_ANSWER_CLAIM": abi.ANSWER_CLAIM,
    **{f"NA_CLAIM_{kind.name}": kind.value for kind in abi.ClaimKind},
    **{f"NA_OP_{op.name}": op.value for op in abi.LedgerOp},
    **{f"NA_ANSWER_{answer.name}": answer.value for answer in abi.Answer},
    **{f"NA_OUT_{outcome.name}": outcome.value for outcome in abi.Outcome},
    **{f"NA_NAME_{kind.name}": kind.value for kind in abi.NameKind},
}


def _questions() -> dict[str, int]:
    """C expression -> what Python believes."""
    found = dict(CONSTANTS)
    for name, twin in abi.STRUCTS.items():
        found[f"sizeof(struct {name})"] = ctypes.sizeof(twin)
        for field in twin._fields_:
            description = getattr(twin, field[0])
            found[f"offsetof(struct {name}, {field[0]})"] = description.offset
            found[f"sizeof(((struct {name} *)0)->{field[0]})"] = description.size
    return found


def _ask_cc(header: Path, expressions: list[str], folder: Path) -> list[int]:
    prints = "\n".join(f'printf("%lu\\n", (unsigned long)({e}));' for e in expressions)
    source = folder / "ask.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/types.h>\n"
        f'#include "{header}"\nint main(void) {{ {prints} return 0; }}\n'
    )
    subprocess.run(["cc", "-Wall", "-Werror", "-Wpadded", "-o", folder / "ask", source], check=True)
    return [int(line) for line in subprocess.run([folder / "ask"], capture_output=True, check=True).stdout.split()]


def test_sizes_offsets_and_constants_agree_and_no_struct_has_hidden_holes(sources: Path, tmp_path: Path) -> None:
    questions = _questions()
    answers = dict(zip(questions, _ask_cc(sources / "abi.h", list(questions), tmp_path), strict=True))
    assert answers == questions


def test_every_field_of_the_header_has_a_twin(sources: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", (sources / "abi.h").read_text(), flags=re.DOTALL)
    for name, twin in abi.STRUCTS.items():
        body = text.split(f"struct {name} {{", 1)[1].split("};", 1)[0]
        assert body.count(";") == len(twin._fields_), name


def test_core_uses_the_same_bits_and_kinds() -> None:
    for flag in kernel_state.DestFlag:
        assert getattr(abi, f"DEST_{flag.name}") == flag.value
    for kind in kernel_state.NameKind:
        assert abi.NameKind[kind.name] == kind.value


@pytest.mark.parametrize("text", ["198.18.0.1", "0.0.0.0", "::", "::1", "fd00:198:18::5"])
def test_addresses_survive_packing(text: str) -> None:
    assert abi.unpack_addr(abi.pack_addr(text)) == text


def test_a_mapped_address_reads_as_ipv4() -> None:
    assert abi.unpack_addr(abi.pack_addr("::ffff:198.18.0.1")) == "198.18.0.1"
