"""`nodeagent run` as a child process of the testbed: start, wait until ready, scrape, stop, kill."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.testbed.metrics import Metrics
from tests.testbed.shell import inside

REPOSITORY = Path(__file__).resolve().parents[2]
WITHOUT_AGENT = {"status", "doctor", "bpf", "bypass", "uninstall"}  # these read the pins themselves
METRICS_ADDRESS = "127.0.0.1:15020"  # inside the node's namespace, so that no two agents meet
START_SECONDS = 60.0  # it takes 2; others may have the processors meanwhile


@dataclass
class Agent:
    """One agent process and how to reach it.  Paths outlive the process: counters and pins do too."""

    cgroup: Path  # the instance's: what it attaches to
    netns: Path  # of the node
    manifests: Path
    bpffs: Path
    home: Path  # holds run/, state/ and agent.log
    options: Sequence[str] = ()
    main: Sequence[str] = ("-m", "nodeagent")  # what Python runs
    process: subprocess.Popen[bytes] | None = None
    _environment: dict[str, str] = field(default_factory=dict)

    @property
    def run_dir(self) -> Path:
        return self.home / "run"

    @property
    def log(self) -> Path:
        return self.home / "agent.log"

    def argv(self) -> list[str]:
        return [
            *(sys.executable, *self.main, "run"),
            *("--manifests", str(self.manifests), "--cgroup", str(self.cgroup), "--bpffs", str(self.bpffs)),
            *("--run-dir", str(self.run_dir), "--state-dir", str(self.home / "state")),
            *("--metrics-address", METRICS_ADDRESS),
            *self.options,
        ]

    def start(self, seconds: float = START_SECONDS) -> Agent:
        """Starts the process and waits until it says it is ready; RuntimeError with its log if it does not."""
        own = self.cgroup / "agent"
        own.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **self._environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                inside(own, self.netns, self.argv()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.home,
                start_new_session=True,
            )
        self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while True:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(
                    f"the agent ended with code {self.process.returncode} before it was ready:{self.tail()}"
                )
            status = self._ready_status()
            if status == http.client.OK:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the agent was not ready after {seconds} s (last answer: {status}):{self.tail()}")
            time.sleep(0.02)

    def apply(self, change: Callable[[], object], seconds: float = 5.0) -> None:
        """Makes a change of the manifests that yields a new generation; returns once every worker has it."""
        before = self._config()["generation"]
        change()
        deadline = time.monotonic() + seconds
        while (config := self._config())["generation"] <= before or config["in_force"] < config["generation"]:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"a change of the manifests is not in force after {seconds} s: {config}{self.tail()}"
                )
            time.sleep(0.005)

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self.admin("/v1/status")[1])["config"]
        return config

    def _ready_status(self) -> int | str:
        try:
            return self.admin("/readyz")[0]
        except OSError as problem:
            return str(problem)

    def admin(self, path: str, timeout: float = 5.0) -> tuple[int, bytes]:
        """GET over the admin socket: (status, body); OSError when nobody listens."""
        connection = _UnixConnection(str(self.run_dir / "admin.sock"), timeout)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def metrics(self) -> Metrics:
        """One scrape over TCP, as Prometheus does it."""
        argv = ["nsenter", f"--net={self.netns}", "curl", "-sS", "--fail", f"http://{METRICS_ADDRESS}/metrics"]
        return Metrics(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)

    def cli_argv(self, *arguments: str) -> list[str]:
        """`nodeagent COMMAND ...` pointed at this instance."""
        here = ["--run-dir", str(self.run_dir)]
        if arguments[0] in WITHOUT_AGENT:
            here += ["--bpffs", str(self.bpffs)]
        return [sys.executable, "-m", "nodeagent", *arguments, *here]

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.cli_argv(*arguments), capture_output=True, text=True, check=check, cwd=REPOSITORY, timeout=60
        )

    def cli_json(self, *arguments: str) -> Any:
        return json.loads(self.cli(*arguments, "-o", "json").stdout)

    def pids(self) -> list[int]:
        """The agent and all its children, from its cgroup."""
        return [int(pid) for pid in (self.cgroup / "agent" / "cgroup.procs").read_text(encoding="ascii").split()]

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM and wait; returns the exit code.  Hooks and counters stay pinned, as at an upgrade."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"the agent did not end within {seconds} s of SIGTERM:{self.tail()}") from None

    def kill(self) -> None:
        """SIGKILLs the agent and every child of it, at once."""
        (self.cgroup / "agent" / "cgroup.kill").write_text("1", encoding="ascii")
        if self.process is not None:
            self.process.wait()

    def uninstall(self) -> None:
        """Detaches and unpins everything of this instance, by the product's own command."""
        self.cli("uninstall")

    def tail(self, lines: int = 40) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else "(no log)"
        return "\n" + "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
