"""Images without a registry: a docker archive of one layer, which containerd imports."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CREATED = "2026-01-01T00:00:00Z"  # always the same: equal content makes an equal image


def layer_of_programs(target: Path, programs: Mapping[str, Path]) -> None:
    """A layer that holds executables and nothing else: path inside -> file."""
    with tarfile.open(target, "w") as tar:
        for inside, source in programs.items():
            entry = tarfile.TarInfo(inside.lstrip("/"))
            entry.size, entry.mode = source.stat().st_size, 0o755
            with source.open("rb") as data:
                tar.addfile(entry, data)


def write(target: Path, name: str, layer: Path, config: Mapping[str, Any]) -> None:
    """The image `name` of one layer.  `config` is the runtime part: Entrypoint, Env, Cmd."""
    description = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}"]},
        "history": [{"created": CREATED}],
    }).encode()  # fmt: skip
    config_name = f"{hashlib.sha256(description).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(target, "w") as tar:
        for file, data in ((config_name, description), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        tar.add(layer, "layer.tar")


def _sha256(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
