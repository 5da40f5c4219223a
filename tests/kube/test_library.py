from __future__ import annotations

import subprocess
import sys

IMPORTED = "import sys, nodeagent.kube.client; print(*sorted(sys.modules))"


def test_of_the_kubernetes_package_nothing_is_imported_but_its_asyncio_client() -> None:
    argv = [sys.executable, "-c", IMPORTED]
    modules = set(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split())
    assert "kubernetes.aio.client" in modules
    assert not modules & {"kubernetes.client", "kubernetes.stream", "kubernetes.aio.stream", "requests", "oauthlib"}
