"""The agent's images, from the project's own Dockerfile by buildah, on a base made here instead of one from a registry.

buildah keeps its layers in the cache, so that a change of Python code alone costs seconds.
"""

from __future__ import annotations

import functools
import os
import shutil
import ssl
from pathlib import Path

from tests.cluster import images, paths, progress
from tests.testbed.shell import CommandError, run

NAMES = {"init": "localhost/nodeagent-init:test", "agent": "localhost/nodeagent:test"}  # by target of the Dockerfile
BASE = "localhost/debian"  # its tag tells one from another: trees of several versions build here
DOCKERFILE = "daemonset/Dockerfile"
SOURCES = (DOCKERFILE, f"{DOCKERFILE}.dockerignore", "requirements.lock", "LICENSE", "nodeagent", "bpf")
MOST_LAYERS = 60  # about 2 GB; the build after that takes a minute longer
BUNDLE = "/run/build-ca.crt"  # not below /etc/ssl/certs: there the package ca-certificates wants to write


def archives() -> list[Path]:
    """The archives of both images, made anew when their sources have changed."""
    sources = paths.digest_of_files(*(paths.REPOSITORY / name for name in SOURCES))
    made = []
    for stage, name in NAMES.items():
        key = paths.digest(sources, images.debian_key(()), name)
        made.append(images.cached(f"nodeagent-{stage}", key, functools.partial(_build, stage)))
    return made


def _build(stage: str, target: Path) -> None:
    if shutil.which("buildah") is None:
        raise images.ImageError("no buildah to make the agent's images with: run hack/setup.sh cluster")
    try:
        layer = images.debian("base", ())
        # One at a time: tags and layers are the machine's, and another run would push its image under our name.
        with paths.made_once("buildah"):
            base = _base(layer)
            _forget_layers()
            with progress.step(f"building the image {stage} of daemonset/Dockerfile", "a minute the first time"):
                _bud(stage, base)
                _buildah("push", NAMES[stage], f"docker-archive:{target}:{NAMES[stage]}")
    except CommandError as problem:
        raise images.ImageError(f"buildah failed: {str(problem)[-4000:]}") from None


def _base(layer: Path) -> str:
    """The Dockerfile's base as an image; made only when there is none yet, since later layers hang on its identity."""
    key = layer.stem.partition("@")[2]
    name = f"{BASE}:{key}"
    if key in _buildah("images", "--all", "--format", "{{.Tag}}").split():
        return name
    container = _buildah("from", "scratch").strip()
    try:
        _buildah("add", container, str(layer), "/")
        _buildah("commit", container, name)
    finally:
        _buildah("rm", container)
    return name


def _forget_layers() -> None:
    """Every change of the sources leaves layers that no later build asks for: at MOST_LAYERS all unnamed ones go."""
    if len(_buildah("images", "--all", "--quiet").split()) > MOST_LAYERS:
        _buildah("rmi", "--prune", "--force")


def _bud(stage: str, base: str) -> None:
    what = [f"--file={paths.REPOSITORY / DOCKERFILE}", f"--target={stage}", f"--tag={NAMES[stage]}"]
    command = ["bud", "--layers", "--network=host", f"--build-arg=BASE={base}", *what]
    _buildah(*command, *_trust(), str(paths.REPOSITORY))


def _trust() -> list[str]:
    """Lets pip trust in there what this machine trusts: a network may have a certificate authority of its own."""
    bundle = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    if not bundle or not Path(bundle).exists():
        return []
    settings = paths.cache() / "buildah" / "pip.conf"
    settings.write_text(f"[global]\ncert = {BUNDLE}\n", encoding="utf-8")
    return [f"--volume={bundle}:{BUNDLE}:ro", f"--volume={settings}:/etc/pip.conf:ro"]


def _buildah(*arguments: str) -> str:
    store = paths.cache() / "buildah"
    places = [f"--root={store / 'layers'}", f"--runroot={store / 'run'}", "--storage-driver=overlay"]
    # buildah leaves mounts behind; in a mount namespace of its own they end with it.
    return run(["unshare", "--mount", "env", "BUILDAH_ISOLATION=chroot", "buildah", *places, *arguments])
