"""The last good state on disk, one JSON file per manifest file, so that a restart loses none of it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nodeagent.config.manifest_files import read_value
from nodeagent.config.objects import Good, Stored
from nodeagent.config.problems import Problem
from nodeagent.config.resources import Identity

FORMAT = 1
MAX_QUOTED = 180  # characters; a file's name has at most 255, and quoting makes three of one
_SUFFIX = ".json"


class LastGood:
    """Reads and writes <state_dir>/last-good/.  Only files whose objects changed are written."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "last-good"
        self._written: dict[str, Mapping[Identity, Stored]] = {}

    def load(self) -> tuple[Good, list[Problem]]:
        """Everything kept by an earlier run.  A file that cannot be used is a problem and is left out."""
        good: dict[str, Mapping[Identity, Stored]] = {}
        problems: list[Problem] = []
        for path in sorted(self._directory.glob("*" + _SUFFIX)) if self._directory.is_dir() else ():
            try:
                name, objects = _decode(json.loads(path.read_bytes()))
                good[name] = objects
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                message = f"last good state is unusable ({error!r}): objects that are broken now have none"
                problems.append(Problem(str(path), 0, "", message))
        self._written = dict(good)
        return good, problems

    def save(self, good: Good) -> None:
        """Write what changed, remove what is gone.  Raises OSError when the disk refuses."""
        changed = {name: objects for name, objects in good.items() if not _same(self._written.get(name), objects)}
        gone = set(self._written) - set(good)
        if changed:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, objects in changed.items():
            _write_whole(self._path(name), _encode(name, objects))
            self._written[name] = objects
        for name in gone:
            self._path(name).unlink(missing_ok=True)
            del self._written[name]

    def _path(self, name: str) -> Path:
        """Readable for whoever looks, and short enough for any file name; the name itself is kept inside."""
        data = os.fsencode(name)
        quoted = quote(data, safe="")
        if len(quoted) > MAX_QUOTED:
            quoted = f"{quoted[:MAX_QUOTED]}-{hashlib.blake2b(data, digest_size=16).hexdigest()}"
        return self._directory / (quoted + _SUFFIX)


def _same(written: Mapping[Identity, Stored] | None, objects: Mapping[Identity, Stored]) -> bool:
    if written is objects:  # most files do not change
        return True
    return (
        written is not None
        and list(written) == list(objects)
        and all(
            one is other or one.value == other.value
            for one, other in zip(written.values(), objects.values(), strict=True)
        )
    )


def _encode(name: str, objects: Mapping[Identity, Stored]) -> bytes:
    rows = [{"document": stored.document, "value": stored.value} for stored in objects.values()]
    return json.dumps({"format": FORMAT, "file": name, "objects": rows}).encode()


def _decode(data: dict[str, Any]) -> tuple[str, dict[Identity, Stored]]:
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']}, expected {FORMAT}")
    name = str(data["file"])
    found: dict[Identity, Stored] = {}
    for row in data["objects"]:
        read = read_value(row["value"])
        if read is not None:
            found[read[0]] = Stored(read[0], read[1], row["value"], name, row["document"])
    return name, found


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside, sync, rename: a reader sees the old file or the new one."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        os.unlink(beside)
        raise
