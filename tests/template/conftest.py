"""The template in a throw-away folder, its scripts, and a server in the place of Coder's agent API."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from stack import kubernetes_template
from stack.bundle import Bundle
from stack.template import BUNDLE
from tests.http_server import QuietHandler, serving
from tests.template.template_support import TESTS, FakeCoder, Script, Tofu, with_parts
from toolchain.builder import Builder
from toolchain.pieces import PIECES


@pytest.fixture(scope="session")
def tofu(tmp_path_factory: pytest.TempPathFactory) -> Tofu:
    """Runs OpenTofu on a copy of the template, so that nothing is left in the source tree."""
    return tofu_on(tmp_path_factory.mktemp("template"), BUNDLE, TESTS, "terraform-mirror")


@pytest.fixture(scope="session")
def tofu_on_kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Tofu:
    """The same with the template for a cluster."""
    mirrors = ("terraform-mirror", "terraform-mirror-kubernetes")
    folder = tmp_path_factory.mktemp("template-kubernetes")
    return tofu_on(folder, kubernetes_template.BUNDLE, TESTS / "kubernetes", *mirrors)


def tofu_on(work: Path, bundle: Bundle, tests: Path, *mirrors: str) -> Tofu:
    builder = Builder(pieces=PIECES)
    binary = builder.directory("tofu") / "bin" / "tofu"
    folders = [builder.directory(mirror) for mirror in mirrors]
    for piece in (binary, *folders):
        assert piece.exists(), f"{piece} is missing: run `python3 -m toolchain build tofu {' '.join(mirrors)}`"
    copy = work / "template"
    (copy / "scripts").mkdir(parents=True)
    for name, source in bundle.sources.items():
        shutil.copy(source, copy / name)
    (copy / "tests").mkdir()
    for file in tests.glob("*.tftest.hcl"):
        shutil.copy(file, copy / "tests")
    # The limit of processes is asked of the engine with curl, and bash looks after a pod; both are mocked.
    (work / "bin").mkdir()
    for name in ("curl", "bash"):
        (work / "bin" / name).symlink_to("/bin/true")
    lines = [f'  filesystem_mirror {{ path = "{folder}" }}' for folder in folders]
    (work / "tofurc").write_text("\n".join(["provider_installation {", *lines, "}\n"]))

    def run(
        *arguments: str, environment: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it; `files` are in the template for this once."""
        for name, text in (files or {}).items():
            (copy / name).write_text(text)
        done = subprocess.run(
            [binary, *arguments],
            cwd=copy,
            env={
                **os.environ,
                "PATH": f"{work / 'bin'}:{os.environ['PATH']}",
                "TF_CLI_CONFIG_FILE": str(work / "tofurc"),
                "TF_IN_AUTOMATION": "1",
                # What Coder's provisioner sets: the agent's init script with the access URL in it.
                "CODER_AGENT_SCRIPT_linux_amd64": (
                    "BINARY_URL=http://127.0.0.1:7080/bin/coder-linux-amd64\n"
                    'export CODER_AGENT_URL="http://127.0.0.1:7080/"\n'
                ),
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        for name in files or {}:
            (copy / name).unlink()
        return done

    prepared = run("init", "-no-color")
    assert prepared.returncode == 0, prepared.stderr
    return run


@pytest.fixture
def fake_coder() -> Iterator[FakeCoder]:
    """An HTTP server in the place of Coder's agent API."""

    class Handler(QuietHandler):
        def do_PATCH(self) -> None:  # noqa: N802  http.server's name
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with coder.arrived:
                coder.requests.append((self.command, self.path, body))
                coder.arrivals_s.append(time.monotonic())
                coder.tokens.add(self.headers["Coder-Session-Token"])
                status = coder.status
                coder.arrived.notify_all()
            time.sleep(coder.takes_s)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as url:
        coder = FakeCoder(url=url)
        yield coder


@pytest.fixture
def workspace_env(tmp_path: Path, fake_coder: FakeCoder) -> dict[str, str]:
    """The environment that the template gives its scripts, with a home of its own."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CODER_AGENT_URL": f"{fake_coder.url}/",
        "CODER_AGENT_TOKEN": "agent-token",
        "CODER_PILOT_STATE_DIR": str(tmp_path / "state"),
        "CODER_PILOT_PROJECT_DIR": str(home / "project"),
        "CODER_PILOT_GIT_BRANCH": "",
        "CODER_PILOT_GIT_SHALLOW": "false",
        "CODER_PILOT_GIT_NAME": "Ann",
        "CODER_PILOT_GIT_EMAIL": "ann@example.com",
        "CODER_PILOT_NO_PROXY": "localhost,coder",
        "CODER_PILOT_WORKSPACE_TRUST": "true",
        "CODER_PILOT_SECRETS_DIR": str(tmp_path / "secrets"),
        "GIT_CONFIG_SYSTEM": str(tmp_path / "state" / "gitconfig"),
        # One that is down: the workspace itself and Coder are asked without it.
        "http_proxy": "http://127.0.0.1:9",
        "CODER_PILOT_CODE_SERVER_PORT": "13337",
        "JUPYTER_CONFIG_PATH": str(tmp_path / "state" / "jupyter"),
        "CODER_PILOT_KEEP_ALIVE_CAP_S": "3600",
    }


@pytest.fixture
def script(workspace_env: dict[str, str], tmp_path: Path) -> Iterator[Script]:
    """Runs one of the template's scripts to its end; what it leaves in the background ends with the test."""
    groups = []

    def run(
        name: str | Path, *arguments: str, within: Sequence[str] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        process = subprocess.Popen(
            [*within, "bash", with_parts(name, tmp_path), *arguments],
            env={**workspace_env, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        groups.append(process.pid)
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    yield run
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@pytest.fixture
def namespace() -> Iterator[list[str]]:
    """The command that runs another one among no processes but the test's, as in a container.

    Without it a real Claude, or a real agent, on this machine would be watched as well.
    """
    # With the signal ignored the kernel takes away whatever ends, as a container's first process does.
    first = ["sh", "-c", "trap '' CHLD; echo ready; exec sleep infinity"]
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with subprocess.Popen([*unshare, *first], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().strip()
        yield ["nsenter", "--target", child, "--user", "--preserve-credentials", "--pid", "--mount", "--"]
        process.kill()
