"""Ways in which people and programs save a file, step by step: for tests of what an agent sees in between.

    for step in STYLES["vim"](path, text):   # each `step` names what was just done to the file system
        ...                                  # the save may be looked at, or held up, here

or at once: `save("cat", path, text)`.  All styles but "configmap" work on any path.  For "configmap", the
directory has to be made into a volume first, with `make_volume(directory, {"name.yaml": text})`.
Nothing here sleeps; a caller that wants a slow save waits between the steps.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

Style = Callable[[Path, str], Iterator[str]]
DATA = "..data"
_versions = itertools.count(1)


def save(style: str, path: Path, text: str) -> None:
    """Save `text` to `path` as `style` does it, without a pause."""
    for _ in STYLES[style](path, text):
        pass


def vim(path: Path, text: str) -> Iterator[str]:
    """Vim with backupcopy=no: the old file becomes the backup, a new one is written, the backup goes."""
    backup = path.with_name(path.name + "~")
    if path.exists():
        os.rename(path, backup)
        yield "old file renamed to the backup"
    yield from _write(path, [text], flags=os.O_CREAT | os.O_EXCL, sync=True)
    os.chmod(path, 0o644)
    yield "mode restored"
    backup.unlink(missing_ok=True)
    yield "backup removed"


def vim_backupcopy(path: Path, text: str) -> Iterator[str]:
    """Vim with backupcopy=yes: the old file is copied to the backup, and written over in place."""
    backup = path.with_name(path.name + "~")
    if path.exists():
        shutil.copy2(path, backup)
        yield "old file copied to the backup"
    yield from _write(path, [text], flags=os.O_CREAT | os.O_TRUNC, sync=True)
    backup.unlink(missing_ok=True)
    yield "backup removed"


def cat(path: Path, text: str) -> Iterator[str]:
    """`cat > path` with a pipe or a terminal behind it: truncated, then written line by line.

    Whatever ends with a line may be valid YAML that lacks the documents still to come.
    """
    yield from _write(path, text.splitlines(keepends=True), flags=os.O_CREAT | os.O_TRUNC)


def rename(path: Path, text: str) -> Iterator[str]:
    """Written beside, then renamed: sed -i, most editors, this project's own tests."""
    beside = path.with_name(f".{path.name}.new")
    yield from _write(beside, [text], flags=os.O_CREAT | os.O_TRUNC)
    os.replace(beside, path)
    yield "renamed into place"


def recreate(path: Path, text: str) -> Iterator[str]:
    """Unlinked and made anew, as git checkout does it."""
    path.unlink(missing_ok=True)
    yield "unlinked"
    yield from _write(path, [text], flags=os.O_CREAT | os.O_EXCL)


def configmap(path: Path, text: str) -> Iterator[str]:
    """A ConfigMap volume is brought up to date: every file anew in a directory, then one symbolic link swapped."""
    directory = path.parent
    before = directory / os.readlink(directory / DATA)
    texts = {file.name: file.read_text(encoding="utf-8") for file in before.iterdir()}
    after = _new_version(directory, {**texts, path.name: text})
    yield "new version written"
    _point(directory, after)
    yield "..data swapped"
    _link(directory, path.name)
    yield "links made"
    shutil.rmtree(before)
    yield "old version removed"


def make_volume(directory: Path, texts: Mapping[str, str]) -> None:
    """Make `directory` a ConfigMap volume, as kubelet's atomic writer lays it out."""
    _point(directory, _new_version(directory, texts))
    for name in texts:
        _link(directory, name)


STYLES: Mapping[str, Style] = {
    "vim": vim,
    "vim-backupcopy": vim_backupcopy,
    "cat": cat,
    "configmap": configmap,
    "rename": rename,
    "recreate": recreate,
}


def _write(path: Path, pieces: list[str], *, flags: int, sync: bool = False) -> Iterator[str]:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        yield "opened, empty"
        for piece in pieces:
            data = piece.encode()
            assert os.write(descriptor, data) == len(data), "a local file takes a write whole"
            yield "a piece written"
        if sync:
            os.fsync(descriptor)
            yield "synced"
    finally:
        os.close(descriptor)
    yield "closed"


def _new_version(directory: Path, texts: Mapping[str, str]) -> Path:
    version = directory / f"..2026_01_01_00_00_00.{os.getpid()}{next(_versions)}"
    version.mkdir()
    for name, text in texts.items():
        (version / name).write_text(text, encoding="utf-8")
    return version


def _point(directory: Path, version: Path) -> None:
    """Swap ..data over in one rename."""
    beside = directory / f"{DATA}_tmp"
    os.symlink(version.name, beside)
    os.replace(beside, directory / DATA)


def _link(directory: Path, name: str) -> None:
    if not (directory / name).is_symlink():
        os.symlink(Path(DATA) / name, directory / name)
