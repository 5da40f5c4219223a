"""Large packages of others, entered without their __init__: the modules in them are the package's own."""

from __future__ import annotations

import importlib.util
import sys


def enter(name: str) -> None:
    """Modules of package `name` can be imported from now on, and its __init__ does not run.

    Nothing, if the package is imported already, or not installed: the imports that follow tell.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return
    made = sys.modules[name] = importlib.util.module_from_spec(spec)
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, made)
