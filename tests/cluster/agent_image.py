"""The agent's image, from the project's own Dockerfile by buildah, on a base made here instead of one from a registry.

buildah keeps its layers in the cache, so that a change of Python code alone costs seconds.
"""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path

from tests.cluster import images, paths, progress
from tests.testbed.shell import CommandError, run

NAME = "localhost/nodeagent:test"
BASE = "localhost/debian:bookworm"
DOCKERFILE = "daemonset/Dockerfile"
SOURCES = (DOCKERFILE, f"{DOCKERFILE}.dockerignore", "requirements.lock", "LICENSE", "nodeagent", "bpf")
BUNDLE = "/run/build-ca.crt"  # not below /etc/ssl/certs: there the package ca-certificates wants to write


def archive() -> Path:
    """The archive of the agent's image, made anew when its sources have changed."""
    sources = [paths.REPOSITORY / name for name in SOURCES]
    return images.cached("nodeagent", paths.digest(paths.digest_of_files(*sources), NAME), _build)


def _build(target: Path) -> None:
    if shutil.which("buildah") is None:
        raise images.ImageError("no buildah to make the agent's image with: run hack/setup.sh cluster")
    try:
        _make_base(images.debian("base", ()))
        with progress.step("building the agent's image from daemonset/Dockerfile", "a minute the first time"):
            _bud()
            _buildah("push", NAME, f"docker-archive:{target}:{NAME}")
    except CommandError as problem:
        raise images.ImageError(f"buildah failed: {str(problem)[-4000:]}") from None


def _make_base(layer: Path) -> None:
    """The Dockerfile's base as an image; again only when there is none yet, since later layers hang on its identity."""
    key = layer.stem.partition("@")[2]
    if key in _buildah("images", "--all", "--format", "{{.Tag}}").split():
        return
    container = _buildah("from", "scratch").strip()
    try:
        _buildah("add", container, str(layer), "/")
        _buildah("commit", container, BASE)
        _buildah("tag", BASE, f"localhost/debian:{key}")
    finally:
        _buildah("rm", container)


def _bud() -> None:
    dockerfile = paths.REPOSITORY / DOCKERFILE
    command = ["bud", "--layers", "--network=host", f"--file={dockerfile}", f"--build-arg=BASE={BASE}", f"--tag={NAME}"]
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
