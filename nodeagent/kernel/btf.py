"""The little BTF that the kernel demands for socket storage: an int key and a struct of the right size.

Format: Documentation/bpf/btf.rst in the kernel tree.  Nothing reads the fields, so the struct has none.
"""

from __future__ import annotations

import struct

_MAGIC, _VERSION, _HEADER = 0xEB9F, 1, 24
_KIND_INT, _KIND_STRUCT = 1, 4
KEY_TYPE, VALUE_TYPE = 1, 2  # ids are positions, from 1


def storage_types(value_size: int) -> bytes:
    """BTF data with type 1 = u32 and type 2 = a struct of `value_size` bytes."""
    strings = b"\0u32\0value\0"
    key = struct.pack("<IIII", strings.index(b"u32"), _KIND_INT << 24, 4, 32)
    value = struct.pack("<III", strings.index(b"value"), _KIND_STRUCT << 24, value_size)
    types = key + value
    header = struct.pack("<HBBIIIII", _MAGIC, _VERSION, 0, _HEADER, 0, len(types), len(types), len(strings))
    return header + types + strings
