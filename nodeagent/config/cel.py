"""Cross-field rules in both languages: Python for the manifest directory, CEL for the API server, side by side.

    @in_cel(Cel("!has(self.hash) || self.type == 'RingHash'", "must not be given when ...", at=".hash"))
    def hash_is_what_a_ring_needs(balancer): ...

`nodeagent.config.crds` writes the CEL into the CRDs; a rule of ours without any is an error there.  Words that CEL
reserves are spelt `__namespace__`.  An expression may use what Kubernetes 1.31 has: CEL's IP and CIDR functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Cel:
    """One entry of x-kubernetes-validations: true where all is well.

    `at`: the field below `self` that the message is about, as `.hash`.  `admission`: the rule needs the object's
    namespace, which a CRD's rules cannot see; it goes into a ValidatingAdmissionPolicy of this name, about `object`.
    """

    rule: str
    message: str
    at: str = ""
    admission: str = ""


@dataclass(frozen=True, slots=True)
class InCel(Generic[Result]):
    """A rule or a check, and what says the same in CEL."""

    function: Callable[[Any], Result]
    cel: tuple[Cel, ...]

    def __call__(self, value: Any) -> Result:
        return self.function(value)


def in_cel(*cel: Cel) -> Callable[[Callable[[Any], Result]], InCel[Result]]:
    def pair(function: Callable[[Any], Result]) -> InCel[Result]:
        return InCel(function, cel)

    return pair


def quoted(text: str) -> str:
    """A text as a CEL literal: raw, so that what is in a regular expression stays as it is."""
    assert "'" not in text  # noqa: S101  (ours all: no pattern needs one)
    return f"r'{text}'"


def listed(names: tuple[str, ...]) -> str:
    """Texts as a CEL list."""
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"
