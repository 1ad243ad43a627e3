"""Who is at work in a workspace is seen right before it would be stopped; what the agent measures is nobody."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from keeper.probe import SCRIPT

# As in a workspace: a program called `coder` with the word `agent`. It is bash, to which that is its script's name.
WAITS = "mkfifo never; exec 3<>never; read -r -u 3"


@contextlib.contextmanager
def _agent(folder: Path, namespace: Sequence[str], script: str) -> Iterator[None]:
    """One that runs `script`, from when it has begun its first program."""
    shutil.copy2("/bin/bash", folder / "coder")
    (folder / "agent").write_text(script)
    with subprocess.Popen([*namespace, "bash", "-c", f"cd {folder} && exec ./coder agent"]) as process:
        try:
            deadline_s = time.monotonic() + 20
            while not (folder / "begun").exists():
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            yield
        finally:
            process.kill()


def _looked(namespace: Sequence[str]) -> list[str]:
    done = subprocess.run(
        [*namespace, "bash", "-c", SCRIPT.read_text()], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()


def test_a_program_of_the_agent_that_stays_is_somebody(namespace: list[str], tmp_path: Path) -> None:
    with _agent(tmp_path, namespace, "sh -c 'touch begun; exec sleep 1000' & wait"):
        assert _looked(namespace) == ["session", "looked"]


def test_what_the_agent_measures_is_nobody(namespace: list[str], tmp_path: Path) -> None:
    with _agent(tmp_path, namespace, f"sh -c 'touch begun; exec sleep 2'; {WAITS}"):
        assert _looked(namespace) == ["looked"]
