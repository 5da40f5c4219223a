"""What is wrong with the configuration, in the words of the API server's field validation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

_LINE_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")  # a problem is one line, whatever it quotes

FieldPath = tuple[str | int, ...]  # ("spec", "rules", 0, "matches") = spec.rules[0].matches


@dataclass(frozen=True, slots=True)
class FieldError:
    """One violation inside one object.  `beyond`: the API server would take the object all the same."""

    path: FieldPath
    message: str
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One line for the user.  `document` counts from 1 inside the file; 0 = the file as a whole; `line` 0 = unknown."""

    file: str
    document: int
    field: str
    message: str
    object: str = ""  # "HTTPRoute shop/web", when it could be read
    line: int = 0

    def __str__(self) -> str:
        where = self.file + (f":{self.line}" if self.line else "")
        if self.document:
            where += f" (document {self.document})"
        text = ": ".join(part for part in (where, self.object, self.field, self.message) if part)
        return _LINE_BREAKS.sub(" ", text).encode("utf-8", "backslashreplace").decode()  # file names may be any bytes


# Reasons of complaints that are no condition's.
UNUSABLE = "Unusable"  # a file, a document or an object in it
NOT_PROGRAMMED = "NotProgrammed"  # the configuration as a whole is not in force


class Complaint(NamedTuple):
    """A line of `nodeagent status`; `reason` is the condition's that it tells, or one of those above."""

    reason: str
    text: str


def field_text(path: Iterable[str | int]) -> str:
    """`spec.rules[0].name`, as the API server writes it; keys with dots or slashes are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("-", "").replace("_", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text
