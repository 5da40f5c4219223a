"""`nodeagent ...` and `python -m nodeagent ...`."""

from __future__ import annotations


def main() -> None:
    from nodeagent.cli.main import cli

    cli(prog_name="nodeagent")


if __name__ == "__main__":
    main()
