"""The cluster's programs, built from Go modules: each once for a version of its sources, then kept in the cache.

go.mod and go.sum name every module with its hash, so that a build today and one next year give the same program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster import paths, progress

SOURCES = paths.HERE / "go"
KUBE_PROGRAMS = (
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl",
)  # fmt: skip
USUALLY = {"kube": "5 to 8 minutes the first time", "coredns": "1 to 2 minutes the first time"}


class BuildError(RuntimeError):
    """A program could not be built; the message says what to do."""


def build(name: str) -> Path:
    """The path of the program `name` (a directory of go/), built unless this version of it is in the cache."""
    folder = paths.cache() / f"{name}-{_key(name)}"
    if not folder.is_dir():
        with paths.made_once(name):
            if not folder.is_dir():
                _make(name, folder)
    return folder / name


def _make(name: str, folder: Path) -> None:
    """Under another name first: a folder that is there is complete."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with progress.step(f"building {name} with Go", USUALLY.get(name, "")):
        _compile(name, partial / name)
    if name == "kube":
        _link_names(partial)
    partial.rename(folder)


def _link_names(folder: Path) -> None:
    """One name for each program that `kube` can be: it looks at the name under which it is called."""
    for program in KUBE_PROGRAMS:
        (folder / program).symlink_to("kube")


def _key(name: str) -> str:
    files = [*sorted((SOURCES / name).glob("*.go")), SOURCES / name / "go.mod", SOURCES / name / "go.sum"]
    return paths.digest(*(path.read_bytes() for path in files if path.exists()), *_flags(name))


def _flags(name: str) -> list[str]:
    symbols = ["-s", "-w"]
    if name == "kube":
        symbols += [f"-X=k8s.io/component-base/version.{key}={value}" for key, value in _version().items()]
    return ["-trimpath", "-ldflags", " ".join(symbols)]


def _version() -> dict[str, str]:
    """What the programs say they are.  kubectl refuses to work as v0.0.0, the default."""
    text = (SOURCES / "kube" / "go.mod").read_text(encoding="utf-8")
    found = re.search(r"k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)", text)
    if found is None:
        raise BuildError("tests/cluster/go/kube/go.mod requires no k8s.io/kubernetes; write it anew with tidy.sh there")
    return {
        "gitVersion": found[1], "gitMajor": found[2], "gitMinor": found[3],
        "gitTreeState": "clean", "gitCommit": "module", "buildDate": "2026-01-01T00:00:00Z",
    }  # fmt: skip


def _compile(name: str, target: Path) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        raise BuildError("no go command, and the cluster's programs are Go modules: run hack/setup.sh cluster")
    environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GO111MODULE": "on"}
    if name != "kube":  # these run in images that have no C library
        environment["CGO_ENABLED"] = "0"
    command = [go, "build", *_flags(name), "-o", str(target), "."]
    done = subprocess.run(command, cwd=SOURCES / name, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(
            f"go could not build tests/cluster/go/{name}. If it could not download a module: check the network and "
            f"GOPROXY. If a module is missing in go.mod: run 'go mod tidy' there.\n{done.stderr[-3000:]}"
        )
