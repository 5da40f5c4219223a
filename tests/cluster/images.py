"""The images of the cluster, each an archive in the cache that is made when what goes into it has changed.

pause and CoreDNS are a program alone; tools is a small Debian with curl, python3, nginx and wrk, for the pods of tests;
the agent's are made by agent_image.py.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.cluster import archives, builds, paths, progress
from tests.cluster.node import PAUSE_IMAGE
from tests.testbed.shell import CommandError, run

ECHO_IMAGE = "registry.k8s.io/gateway-api/echo-advanced:v1.5.1"
COREDNS_IMAGE = "localhost/coredns:1"
TOOLS_IMAGE = "localhost/tools:1"
TOOLS = ("python3-minimal", "libpython3-stdlib", "curl", "iproute2", "procps", "nginx-light", "wrk")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WITHOUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
SUITE = "bookworm"
# /usr is merged from the start.  Else mmdebstrap takes usrmerge for it, which brings all of Perl: 50 MB.
MERGED = "/usr/share/mmdebstrap/hooks/merged-usr"
PREFERENCES = "etc/apt/preferences.d/no-usrmerge"
NO_USRMERGE = rf'printf "Package: usrmerge\nPin: version *\nPin-Priority: -1\n" >"$1"/{PREFERENCES}'
CLEAN = f'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/{PREFERENCES}'
KEPT = 2  # for who goes back and forth between two versions; the agent's take 700 MB


class ImageError(RuntimeError):
    """An image could not be made; the message says what to do."""


def small() -> list[Path]:
    """Archives that every pod and DNS need."""
    return [
        _files_image("pause", PAUSE_IMAGE, {"/pause": builds.build("pause")}, {"Entrypoint": ["/pause"]}),
        _files_image("coredns", COREDNS_IMAGE, {"/coredns": builds.build("coredns")}, {"Entrypoint": ["/coredns"]}),
    ]


def echo() -> Path:
    """The archive of the app in the pods of Gateway API's mesh tests, under the name that their manifests use."""
    certificates = builds.module_directory("echo-server", "istio.io/istio") / "tests/testdata/certs/dns"
    programs = {f"/usr/local/bin/{name}": builds.build(f"echo-{name}") for name in ("server", "client")}
    keys = {"/cert.crt": certificates / "cert-chain.pem", "/cert.key": certificates / "key.pem"}
    config = {"Entrypoint": ["/usr/local/bin/server"], "Env": ["PATH=/usr/local/bin"]}
    return _files_image("echo", ECHO_IMAGE, {**programs, **keys}, config)


def tools() -> Path:
    """The archive of the image for tests' pods."""
    layer = debian("tools", TOOLS)
    config = {"Env": [PATH], "Cmd": ["/bin/bash"]}
    return cached("tools", paths.digest(layer.name), lambda target: archives.write(target, TOOLS_IMAGE, layer, config))


def debian(name: str, packages: tuple[str, ...]) -> Path:
    """A tar archive of a minimal Debian with `packages`."""
    what = f"a Debian of {', '.join(packages) or 'the base alone'}"
    return cached(f"debian-{name}", debian_key(packages), lambda target: _bootstrap(target, packages, what))


def debian_key(packages: tuple[str, ...]) -> str:
    return paths.digest(*_bootstrapping(packages))


def cached(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The file `name` of this `key`; `make` writes it if it is not there.  Of older ones KEPT stay."""
    folder = paths.cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}@{key}.tar"
    with paths.made_once(name):
        if not target.exists():
            partial = target.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            make(partial)
            partial.rename(target)
            _forget(sorted(folder.glob(f"{name}@*.tar"), key=lambda path: path.stat().st_mtime)[: -KEPT - 1])
    return target


def _forget(archives_of_the_past: list[Path]) -> None:
    for archive in archives_of_the_past:
        archive.unlink()


def _files_image(short: str, name: str, files: Mapping[str, Path], config: Mapping[str, Any]) -> Path:
    def make(target: Path) -> None:
        layer = target.with_suffix(".layer")
        archives.layer_of_files(layer, files)
        archives.write(target, name, layer, config)
        layer.unlink()

    # A program's folder, and a module's, have the version in their names.
    key = paths.digest(name, json.dumps(config), *(f"{inside}={source}" for inside, source in files.items()))
    return cached(short, key, make)


def _bootstrapping(packages: tuple[str, ...]) -> list[str]:
    """The command that writes the tar archive to stdout."""
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in WITHOUT]
    options += [f"--hook-dir={MERGED}", f"--setup-hook={NO_USRMERGE}", f"--customize-hook={CLEAN}"]
    options += [f"--include={','.join(packages)}"] if packages else []
    return ["mmdebstrap", "--variant=minbase", "--format=tar", *options, SUITE, "-"]


def _bootstrap(target: Path, packages: tuple[str, ...], what: str) -> None:
    if shutil.which("mmdebstrap") is None:
        raise ImageError("no mmdebstrap, and images are made from Debian packages: run hack/setup.sh cluster")
    if platform.machine() != "x86_64":
        raise ImageError(f"images are described as amd64, and this machine is {platform.machine()}: see archives.py")
    to_file = ["/bin/sh", "-c", 'out=$1; shift; exec "$@" >"$out"', "to-file", str(target)]
    with progress.step(f"making {what}", "half a minute the first time"):
        try:
            run([*to_file, *_bootstrapping(packages)])
        except CommandError as problem:
            tail = str(problem)[-2000:]
            raise ImageError(f"mmdebstrap failed: check the network and the Debian mirror. {tail}") from None
