"""How examples are read out of documents, and what of a command's output agrees with them."""

from __future__ import annotations

import pytest

from tests.doc_examples import Command, agrees, commands_of, examples_of

MANIFEST = "apiVersion: v1\nkind: Namespace\n"
PAGE = f"""# Page

```yaml
{MANIFEST}```

Some words.

```console
web-1$ curl -s catalog
one

two
$ nodeagent status
```

```yaml
{MANIFEST}```
"""


def test_a_console_block_belongs_to_the_manifest_before_it() -> None:
    first, second = examples_of("page.md", PAGE)
    assert (first.page, first.line, first.manifest) == ("page.md", 3, MANIFEST)
    assert first.commands == (
        Command("web-1", "curl -s catalog", "one\n\ntwo\n"),
        Command("", "nodeagent status", ""),
    )
    assert second.commands == ()
    assert second.line == 18


def test_yaml_that_is_no_manifest_is_no_example() -> None:
    assert examples_of("page.md", "```yaml\nretry: {}\n```\n") == []


@pytest.mark.parametrize("before", ["", "```yaml\nretry: {}\n```\n", PAGE + "```console\n$ true\n```\n"])
def test_a_console_block_without_a_manifest_is_an_error(before: str) -> None:
    with pytest.raises(ValueError, match="must come after the manifest"):
        examples_of("page.md", f"{before}```console\n$ true\n```\n")


def test_a_console_block_begins_with_a_command() -> None:
    with pytest.raises(ValueError, match="begins with POD"):
        list(commands_of("HTTP/1.1 200 OK\n"))


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("", ""),
        ("200\n", "200"),
        ("a\n\nb\n", "a\r\n\r\nb\r\n"),
        ("HTTP/1.1 200 ...\n...\nx: 1\n", "HTTP/1.1 200 OK\nx: 1\n"),
        ("HTTP/1.1 200 ...\n...\nx: 1\n...\n", "HTTP/1.1 200 OK\ndate: now\nserver: s\nx: 1\n\nbody"),
        ('..."pod": "v1"...\n', '{"pod": "v1", "n": 1}\n'),
        ("*(1) [a]\n", "*(1) [a]\n"),
    ],
)
def test_output_agrees_but_for_what_dots_stand_for(expected: str, printed: str) -> None:
    assert agrees(expected, printed)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("", "something"),
        ("200\n", ""),
        ("200\n", "200\n200\n"),
        ("a ... b\n", "a 1\n2 b\n"),
        ("...\nx: 1\n", "x: 1\nmore\n"),
        ("a\nb\n", "b\na\n"),
        ("*\n", "anything\n"),
    ],
)
def test_output_that_says_something_else_does_not_agree(expected: str, printed: str) -> None:
    assert not agrees(expected, printed)
