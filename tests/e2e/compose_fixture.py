"""The compose pilot of before, run by the real docker compose: what `up` is measured against, and what it adopts."""

from __future__ import annotations

import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.parts import CODER_IMAGE, POSTGRES_IMAGE
from tests.e2e.pilot_fixture import eventually

FILE = Path(__file__).with_name("compose.yaml")
TIMEOUT_S = 120
POSTGRES_PASSWORD = "the-compose-pilots-own"


@dataclass(frozen=True, kw_only=True)
class ComposePilot:
    """One of them; `stack` is the value of the label by which the tests find what is theirs."""

    directory: Path
    stack: str
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Start it, and wait until Coder says that it is healthy."""
        self._compose("up", "--detach")
        eventually(self._healthy, timeout_s=TIMEOUT_S, what="the compose pilot's Coder", interval_s=0.1)

    def down(self) -> None:
        """Remove its containers and its network; the data stays."""
        self._compose("down")

    def _compose(self, *arguments: str) -> None:
        environment = self.directory / ".env"
        environment.write_text(
            f"CODER_IMAGE={CODER_IMAGE}\nPOSTGRES_IMAGE={POSTGRES_IMAGE}\nPORT={self.port}\nSTACK={self.stack}\n"
            f"CODER_ACCESS_URL={self.url}\nDATA_DIRECTORY={self.directory}\nPOSTGRES_PASSWORD={POSTGRES_PASSWORD}\n"
            f"DOCKER_GROUP_ID={Path('/var/run/docker.sock').stat().st_gid}\n"
        )
        done = subprocess.run(
            ["docker-compose", "--project-name", f"{self.stack}-compose", "--file", FILE, "--env-file", environment,
             *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def _healthy(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:  # noqa: S310  http on loopback
            return bool(answer.status == 200)
