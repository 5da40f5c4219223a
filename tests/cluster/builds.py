"""The cluster's programs, built from Go modules: each once for a version of its sources, then kept in the cache.

go.mod and go.sum name every module with its hash, so that a build today and one next year give the same program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import paths, progress

SOURCES = paths.HERE / "go"
KUBE_PROGRAMS = (
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl",
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """`module` is a directory of go/, `package` what is built there, by `go VERB...`; images have no C library."""

    module: str
    package: str = "."
    verb: tuple[str, ...] = ("build",)
    c_library: bool = False
    usually: str = ""


ECHO = "istio.io/istio/pkg/test/echo/cmd"
PROGRAMS = {
    "kube": Program("kube", c_library=True, usually="5 to 8 minutes the first time"),
    "coredns": Program("coredns", usually="1 to 2 minutes the first time"),
    "pause": Program("pause"),
    "conformance": Program("conformance", verb=("test", "-c"), usually="1 to 2 minutes the first time"),
    "echo-server": Program("echo", f"{ECHO}/server", usually="1 minute the first time"),
    "echo-client": Program("echo", f"{ECHO}/client"),
}


class BuildError(RuntimeError):
    """A program could not be built; the message says what to do."""


def build(name: str) -> Path:
    """The path of the program `name` of PROGRAMS, built unless this version of it is in the cache."""
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
    with progress.step(f"building {name} with Go", PROGRAMS[name].usually):
        _compile(name, partial / name)
    if name == "kube":
        _link_names(partial)
    partial.rename(folder)


def _link_names(folder: Path) -> None:
    """One name for each program that `kube` can be: it looks at the name under which it is called."""
    for program in KUBE_PROGRAMS:
        (folder / program).symlink_to("kube")


def _key(name: str) -> str:
    folder = SOURCES / PROGRAMS[name].module
    files = [*sorted(folder.glob("*.go")), folder / "go.mod", folder / "go.sum"]
    return paths.digest(*(path.read_bytes() for path in files if path.exists()), *_flags(name))


def module_directory(program: str, module: str) -> Path:
    """Where the files of a module lie that `program` is built from: certificates and manifests, say."""
    _go(program, "mod", "download", module)
    return Path(_go(program, "list", "-m", "-f", "{{.Dir}}", module).strip())


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
    program = PROGRAMS[name]
    _go(name, *program.verb, *_flags(name), "-o", str(target), program.package)


def _go(name: str, *arguments: str) -> str:
    """The output of go in the module of the program `name`."""
    program = PROGRAMS[name]
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        raise BuildError("no go command, and the cluster's programs are Go modules: run hack/setup.sh cluster")
    environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GO111MODULE": "on"}
    if not program.c_library:
        environment["CGO_ENABLED"] = "0"
    folder = SOURCES / program.module
    done = subprocess.run([go, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(
            f"'go {arguments[0]}' failed in {folder}. If it could not download a module: check the network and "
            f"GOPROXY. If a module is missing in go.mod: run 'go mod tidy' there.\n{done.stderr[-3000:]}"
        )
    return done.stdout
