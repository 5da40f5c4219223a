"""Where things are: what is built once and kept, and what one running cluster has."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


def cache() -> Path:
    """Programs, images and running clusters: `~/.cache/nodeagent-tests/cluster` (or below $XDG_CACHE_HOME)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME") or "/root") / ".cache"
    return Path(base) / "nodeagent-tests" / "cluster"


def run_directory(tag: str) -> Path:
    """Everything that the running cluster `tag` writes, its nodes' /var/lib included."""
    return cache() / "run" / tag


@contextmanager
def made_once(name: str) -> Iterator[None]:
    """Lets one process at a time make `name` for the cache; who waited finds it made."""
    locks = cache() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest(*parts: bytes | str) -> str:
    """A cache key: the same parts in the same order give the same key."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "big") + data)
    return found.hexdigest()[:16]


def digest_of_files(*paths: Path) -> str:
    """A cache key of files in the repository, or of all files below a directory: names, contents and execute bits."""
    parts: list[bytes | str] = []
    for file in sorted(_files(paths)):
        parts += [str(file.relative_to(REPOSITORY)), "x" if os.access(file, os.X_OK) else "-", file.read_bytes()]
    return digest(*parts)


def _files(paths: tuple[Path, ...]) -> list[Path]:
    return [
        file
        for path in paths
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    ]
