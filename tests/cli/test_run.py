"""`run` refuses a source that is not named, or named twice, before it touches anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "Missing option '--manifests', or --source kubernetes"),
        (["--source", "kubernetes", "--manifests", "DIR"], 2, "--manifests is of --source directory"),
        (["--manifests", "DIR", "--kubeconfig", "FILE"], 2, "--kubeconfig is of --source kubernetes"),
        (["--source", "kubernetes", "--kubeconfig", "FILE"], 1, "FILE is not a file; name the one that `kubectl` uses"),
        (["--manifests", "FILE"], 1, "FILE is not a directory"),
        (["--source", "etcd"], 2, "'etcd' is not one of 'directory', 'kubernetes'"),
    ],
)
def test_objects_come_from_one_source(run: Run, tmp_path: Path, options: list[str], code: int, said: str) -> None:
    names = {"DIR": str(tmp_path), "FILE": str(tmp_path / "FILE")}
    result = run("run", *(names.get(option, option) for option in options))
    assert result.exit_code == code
    assert said in result.stderr
