"""What the reader sees: numbered steps, sentences, and claims that hold or do not."""

from __future__ import annotations

import sys
import textwrap
import time

WIDTH = 110


class Story:
    """Prints as it goes; `failed` lists the claims that did not hold."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.held = 0
        self.failed: list[str] = []
        self._steps = 0

    def step(self, title: str) -> None:
        self._steps += 1
        self._print(f"\n{self._steps}. {title}")

    def say(self, text: str) -> None:
        for line in textwrap.wrap(text, WIDTH, break_on_hyphens=False):
            self._print(f"   {line}")

    def show(self, text: str) -> None:
        """The output of a command, as it is."""
        for line in text.rstrip("\n").splitlines():
            self._print(f"   | {line}")

    def command(self, *words: str) -> None:
        self._print(f"   $ nodeagent {' '.join(words)}")

    def claim(self, holds: bool, text: str) -> None:
        if holds:
            self.held += 1
        else:
            self.failed.append(text)
        self._print(f"   [{'ok' if holds else 'NOT SO'}] {text}")

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def _print(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
