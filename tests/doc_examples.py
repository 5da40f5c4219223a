"""Examples in documents: a manifest in a ```yaml block, and in the ```console block after it what one then sees.

    web-1$ curl -s catalog/items        a command in the pod web-1
    version ...                         what it prints: "..." is any text in a line, and alone any number of lines
    $ nodeagent get policies            a command on the node

Pure: who runs them is `tests/agent_kernel/test_doc_examples.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_FENCE = re.compile(r"^```(?P<language>[a-z]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"(?P<pod>[a-z0-9-]*)\$ (?P<command>.+)")


class Command(NamedTuple):
    pod: str  # "" = the node
    command: str
    expected: str  # lines, each with its end


class Example(NamedTuple):
    page: str
    line: int  # of the manifest's fence, from 1
    manifest: str
    commands: tuple[Command, ...]  # none: the page does not say what one sees


def examples_of(page: str, text: str) -> list[Example]:
    """Every manifest of a page; a yaml block that is none is left out.  ValueError for a console block without one."""
    found: list[Example] = []
    manifest: Example | None = None
    for fence in _FENCE.finditer(text):
        language, body = fence["language"], fence["body"]
        if language == "console":
            if manifest is None:
                raise ValueError(f"{page}: a console block must come after the manifest that it shows: {body}")
            found[-1] = manifest._replace(commands=tuple(commands_of(body)))
        manifest = None
        if language == "yaml" and "apiVersion:" in body and "kind:" in body:
            manifest = Example(page, text.count("\n", 0, fence.start()) + 1, body, ())
            found.append(manifest)
    return found


def commands_of(block: str) -> Iterator[Command]:
    """ValueError where it does not begin with a command."""
    command: Command | None = None
    for line in block.splitlines():
        prompt = _PROMPT.fullmatch(line)
        if prompt is not None:
            if command is not None:
                yield command
            command = Command(prompt["pod"], prompt["command"], "")
        elif command is None:
            raise ValueError(f"a console block begins with POD$ COMMAND, or $ COMMAND, not with {line!r}")
        else:
            command = command._replace(expected=f"{command.expected}{line}\n")
    if command is not None:
        yield command


def agrees(expected: str, printed: str) -> bool:
    """Whether a command printed what was expected of it; line ends of HTTP and a missing last one do not matter."""
    pattern = "".join(map(_pattern, expected.splitlines()))
    lines = (line.rstrip() for line in printed.rstrip().splitlines())
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


def _pattern(line: str) -> str:
    if line == "...":
        return r"(?:.*\n)*?"
    return ".*?".join(map(re.escape, line.rstrip().split("..."))) + r"\n"
