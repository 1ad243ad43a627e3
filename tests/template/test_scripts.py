"""What a start does to a home folder: it fills what is missing, touches nothing that is there, and says what failed.

The scripts run as they are, with real git repositories; only programs that need the internet are stood in for.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.http_server import QuietHandler, serving
from tests.template.template_support import PARTS, SCRIPTS, FakeCoder, Script

PINS = dict(re.findall(r"^(\w+_version)=(.+)$", PARTS.read_text(), flags=re.MULTILINE))
CODE_SERVER_VERSION, CLAUDE_VERSION, EXTENSION_VERSION = (
    PINS[f"{part}_version"] for part in ("code_server", "claude", "extension")
)

GIT = {
    "GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@example.com",
}  # fmt: skip


def git(*arguments: str, cwd: Path) -> None:
    subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, env={**os.environ, **GIT}, timeout=60)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a visible and a hidden file."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git("init", "--quiet", cwd=origin)
    (origin / "file").write_text("content\n")
    (origin / ".hidden").write_text("hidden\n")
    git("add", ".", cwd=origin)
    git("commit", "--quiet", "--message", "First", cwd=origin)
    return origin


@pytest.fixture
def project(workspace_env: dict[str, str]) -> Path:
    return Path(workspace_env["CODER_PILOT_PROJECT_DIR"])


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def program(folder: Path, name: str, text: str) -> Path:
    """A program for PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


# --- clone.sh


def test_a_repository_is_cloned_into_the_folder_that_is_open(script: Script, repository: Path, project: Path) -> None:
    project.mkdir()
    opened = project.stat().st_ino
    done = script("clone.sh", CODER_PILOT_GIT_REPOSITORY=str(repository))
    assert done.returncode == 0, done.stderr
    assert project.stat().st_ino == opened
    assert (project / "file").read_text() == "content\n"
    assert (project / ".hidden").exists()
    git("diff", "--exit-code", "HEAD", cwd=project)


def test_a_second_start_leaves_the_clone_alone(script: Script, repository: Path, project: Path) -> None:
    script("clone.sh", CODER_PILOT_GIT_REPOSITORY=str(repository))
    (project / "file").write_text("mine\n")
    done = script("clone.sh", CODER_PILOT_GIT_REPOSITORY=str(repository))
    assert done.returncode == 0
    assert (project / "file").read_text() == "mine\n"


def test_a_folder_with_something_in_it_is_not_cloned_into(script: Script, repository: Path, project: Path) -> None:
    project.mkdir()
    (project / "mine").write_text("mine\n")
    done = script("clone.sh", CODER_PILOT_GIT_REPOSITORY=str(repository))
    assert done.returncode == 1
    assert "is not empty and not a clone" in done.stderr
    assert [path.name for path in project.iterdir()] == ["mine"]


def test_an_unreachable_repository_is_reported_and_leaves_an_empty_folder(
    script: Script, project: Path, tmp_path: Path, free_port: int
) -> None:
    address = f"http://127.0.0.1:{free_port}/repo.git"
    done = script("clone.sh", CODER_PILOT_GIT_REPOSITORY=address)
    assert done.returncode == 1
    assert f"{address} could not be cloned" in done.stderr
    assert "Git repository" in done.stderr
    assert list(project.iterdir()) == []


@pytest.mark.parametrize(
    ("page", "repository"),
    [
        ("/group/repo/tree/main/src/deep", "/group/repo"),
        ("/group/repo/blob/main/README.md", "/group/repo"),
        ("/group/below/repo/-/tree/main", "/group/below/repo"),
        ("/group/repo/src/branch/main/docs", "/group/repo"),
        ("/group/repo/commit/0123456", "/group/repo"),
    ],
)
def test_the_address_of_a_page_is_answered_with_that_of_its_repository(
    script: Script, free_port: int, page: str, repository: str
) -> None:
    host = f"http://127.0.0.1:{free_port}"
    done = script("clone.sh", CODER_PILOT_GIT_REPOSITORY=f"{host}{page}")
    assert done.returncode == 1
    assert f"is a page of a repository. Give the repository itself, {host}{repository}, in" in done.stderr


def test_an_interrupted_clone_is_begun_anew(
    script: Script, repository: Path, project: Path, workspace_env: dict[str, str]
) -> None:
    left_over = Path(workspace_env["HOME"]) / ".cache" / "coder-pilot-clone"
    left_over.mkdir(parents=True)
    (left_over / "half").write_text("")
    done = script("clone.sh", CODER_PILOT_GIT_REPOSITORY=str(repository))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in project.iterdir()) == [".git", ".hidden", "file"]


# --- dotfiles.sh


def test_dotfiles_are_applied_by_coder_without_a_question(script: Script, tmp_path: Path) -> None:
    program(tmp_path / "bin", "coder", 'echo "$@"; cat')
    done = script(
        "dotfiles.sh",
        CODER_PILOT_DOTFILES_REPOSITORY="https://example.com/dotfiles",
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
    )
    assert done.returncode == 0
    assert done.stdout.strip() == "dotfiles --yes -- https://example.com/dotfiles"


def test_dotfiles_come_from_hosts_as_the_clone_does(
    script: Script, tmp_path: Path, workspace_env: dict[str, str]
) -> None:
    # `coder dotfiles` adds options that trust every key; ssh takes the first of two values.
    program(
        tmp_path / "bin",
        "coder",
        "exec $GIT_SSH_COMMAND -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -G h",
    )
    done = script(
        "dotfiles.sh",
        CODER_PILOT_DOTFILES_REPOSITORY="git@h:dotfiles",
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    )
    assert "stricthostkeychecking accept-new" in done.stdout.splitlines()
    assert f"userknownhostsfile {workspace_env['HOME']}/.ssh/known_hosts" in done.stdout.splitlines()


def test_failing_dotfiles_are_reported_with_their_output(script: Script, tmp_path: Path) -> None:
    program(tmp_path / "bin", "coder", 'echo "install.sh: boom" >&2; exit 3')
    done = script(
        "dotfiles.sh",
        CODER_PILOT_DOTFILES_REPOSITORY="https://example.com/dotfiles",
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
    )
    assert done.returncode == 1
    assert "install.sh: boom" in done.stderr
    assert "Dotfiles repository" in done.stderr


# --- code-server.sh

# Answers on the port that it is given, as code-server does, and notes how it was called.
CODE_SERVER = """
echo "$@" >>"$HOME/calls"
if [[ $1 == --install-extension ]]; then
  [[ $2 == *@* && -n ${WITHOUT_VERSION-} ]] && exit 1
  exit "${INSTALL_EXIT:-0}"
fi
for word in "$@"; do [[ $word == 127.0.0.1:* ]] && port=${word##*:}; done
cd "$(mktemp -d)" && touch healthz && echo $$ >"$HOME/pid"
exec python3 -m http.server --bind 127.0.0.1 "$port"
"""


@pytest.fixture
def code_server_root(tmp_path: Path, workspace_env: dict[str, str]) -> Iterator[Path]:
    """An image's code-server in the layout of the npm package; what it starts ends with the test."""
    root = tmp_path / "image" / "node_modules" / "code-server"
    (root / "out" / "node").mkdir(parents=True)
    (root / "lib" / "vscode" / "extensions").mkdir(parents=True)
    entry = program(root / "out" / "node", "entry.js", CODE_SERVER)
    program(tmp_path / "bin", "claude", "echo 2.1.332")
    (tmp_path / "bin" / "code-server").symlink_to(entry)
    yield root
    pid = Path(workspace_env["HOME"]) / "pid"
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.fixture
def with_image(script: Script, code_server_root: Path, tmp_path: Path, free_port: int) -> Script:
    """Runs code-server.sh in an image that has code-server."""

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        return script(
            "code-server.sh",
            CODER_PILOT_CODE_SERVER_PORT=str(free_port),
            PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
            **environment,
        )

    return run


def calls(workspace_env: dict[str, str]) -> list[str]:
    return (Path(workspace_env["HOME"]) / "calls").read_text().splitlines()


def settings_file(workspace_env: dict[str, str]) -> Path:
    return Path(workspace_env["HOME"]) / ".local/share/code-server/User/settings.json"


def test_an_image_with_everything_starts_without_an_installation(
    with_image: Script, code_server_root: Path, workspace_env: dict[str, str], project: Path, free_port: int
) -> None:
    (code_server_root / "lib/vscode/extensions/anthropic.claude-code").mkdir()
    done = with_image()
    assert done.returncode == 0, done.stderr
    (call,) = calls(workspace_env)
    assert f"--auth none --bind-addr 127.0.0.1:{free_port}" in call
    assert "--disable-workspace-trust" in call
    assert project.is_dir()


def test_jupyter_is_told_to_let_other_hosts_in(with_image: Script, workspace_env: dict[str, str]) -> None:
    assert with_image().returncode == 0
    file = Path(workspace_env["JUPYTER_CONFIG_PATH"]) / "jupyter_server_config.json"
    assert json.loads(file.read_text()) == {"ServerApp": {"allow_remote_access": True}}


def test_the_editor_is_told_its_path_where_apps_are_paths(with_image: Script, workspace_env: dict[str, str]) -> None:
    path = "/@ann/alpha.main/apps/code-server"
    assert with_image(CODER_PILOT_EDITOR_PATH=path).returncode == 0
    assert f" --abs-proxy-base-path {path} --" in calls(workspace_env)[0]


def test_the_editor_is_told_no_path_where_it_has_a_name_of_its_own(
    with_image: Script, workspace_env: dict[str, str]
) -> None:
    assert with_image().returncode == 0
    assert "--abs-proxy-base-path" not in calls(workspace_env)[0]


def test_a_missing_extension_is_installed_at_its_pinned_version(
    with_image: Script, workspace_env: dict[str, str]
) -> None:
    done = with_image()
    assert done.returncode == 0, done.stderr
    assert calls(workspace_env)[1:] == [f"--install-extension anthropic.claude-code@{EXTENSION_VERSION}"]


def test_a_market_without_the_pinned_version_gives_its_newest(
    with_image: Script, workspace_env: dict[str, str], tmp_path: Path
) -> None:
    done = with_image(WITHOUT_VERSION="1")
    assert done.returncode == 0, done.stderr
    assert calls(workspace_env)[-1] == "--install-extension anthropic.claude-code"
    log = (tmp_path / "state" / "code-server.log").read_text()
    assert log.endswith("Installing anthropic.claude-code from the extension market.\n")


def test_an_extension_in_the_home_volume_is_not_installed_again(
    with_image: Script, workspace_env: dict[str, str]
) -> None:
    extensions = Path(workspace_env["HOME"]) / ".local/share/code-server/extensions"
    (extensions / "anthropic.claude-code-2.1.120-linux-x64").mkdir(parents=True)
    assert with_image().returncode == 0
    assert len(calls(workspace_env)) == 1


def test_a_failing_market_is_a_warning_and_no_failure(with_image: Script, workspace_env: dict[str, str]) -> None:
    done = with_image(INSTALL_EXIT="1")
    assert done.returncode == 0
    assert "WARNING: the Claude Code extension could not be installed (3 attempts" in done.stderr
    # The start, then each attempt asks for the pinned version and for any.
    assert len(calls(workspace_env)) == 1 + 3 * 2


def test_the_first_settings_are_quiet(with_image: Script, workspace_env: dict[str, str]) -> None:
    with_image()
    first = json.loads(settings_file(workspace_env).read_text())
    assert first["workbench.startupEditor"] == "none"
    assert first["workbench.welcomePage.walkthroughs.openOnInstall"] is False


def test_a_users_own_settings_are_kept(with_image: Script, workspace_env: dict[str, str]) -> None:
    settings_file(workspace_env).parent.mkdir(parents=True)
    settings_file(workspace_env).write_text("// mine\n{}\n")
    assert with_image().returncode == 0
    assert settings_file(workspace_env).read_text() == "// mine\n{}\n"


def test_a_code_server_that_ends_at_once_is_reported_with_its_log(
    script: Script, tmp_path: Path, free_port: int
) -> None:
    program(tmp_path / "bin", "code-server", 'echo "no such module" >&2; exit 1')
    started_s = time.monotonic()
    done = script(
        "code-server.sh",
        CODER_PILOT_CODE_SERVER_PORT=str(free_port),
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
    )
    assert done.returncode == 1
    assert "code-server does not answer" in done.stderr
    assert "no such module" in done.stderr
    assert time.monotonic() - started_s < 30


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with the usual tools and no code-server, and a `curl` that has the release archive in its cupboard."""
    release = tmp_path / "release" / f"code-server-{CODE_SERVER_VERSION}-linux-amd64"
    (release / "lib/vscode/extensions/anthropic.claude-code").mkdir(parents=True)
    program(release / "bin", "code-server", CODE_SERVER)
    with tarfile.open(tmp_path / "release.tar.gz", "w:gz") as archive:
        archive.add(release, arcname=release.name)
    real = tmp_path / "tools"
    real.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for tool in Path(folder).glob("*") if Path(folder).is_dir() else []:
            if tool.name not in ("code-server", "curl") and not (real / tool.name).exists():
                (real / tool.name).symlink_to(tool)
    curl = subprocess.run(["bash", "-c", "command -v curl"], capture_output=True, text=True, check=True).stdout.strip()
    program(real, "claude", f"echo {CLAUDE_VERSION}")
    program(
        real,
        "curl",
        f'case "$*" in *http://127.0.0.1*) exec {curl} "$@" ;; esac\n'
        'echo "$@" >>"$HOME/downloads"\n'
        '[[ -n ${NO_NETWORK-} ]] && echo "curl: (6) no network" >&2 && exit 6\n'
        "while [[ $1 != --output ]]; do shift; done\n"
        f'cp {tmp_path}/release.tar.gz "$2"',
    )
    return real


def test_an_image_without_code_server_gets_it_once_into_the_home_volume(
    script: Script, bare_path: Path, workspace_env: dict[str, str], free_port: int
) -> None:
    home = Path(workspace_env["HOME"])
    for _ in range(2):
        done = script("code-server.sh", CODER_PILOT_CODE_SERVER_PORT=str(free_port), PATH=str(bare_path))
        assert done.returncode == 0, done.stderr
        os.kill(int((home / "pid").read_text()), signal.SIGKILL)
    assert (home / f".local/lib/code-server-{CODE_SERVER_VERSION}/bin/code-server").exists()
    (download,) = (home / "downloads").read_text().splitlines()
    assert f"/v{CODE_SERVER_VERSION}/code-server-{CODE_SERVER_VERSION}-linux-amd64.tar.gz" in download
    # The extension of the release was found: nothing was installed.
    assert not [call for call in calls(workspace_env) if "--install-extension" in call]


def test_an_image_without_code_server_and_without_a_network_says_what_to_do(
    script: Script, bare_path: Path, workspace_env: dict[str, str], free_port: int
) -> None:
    done = script("code-server.sh", CODER_PILOT_CODE_SERVER_PORT=str(free_port), PATH=str(bare_path), NO_NETWORK="1")
    assert done.returncode == 1
    assert "curl: (6) no network" in done.stderr
    assert f"code-server {CODE_SERVER_VERSION} could not be installed" in done.stderr
    home = Path(workspace_env["HOME"])
    assert len((home / "downloads").read_text().splitlines()) == 3
    assert not (home / f".local/lib/code-server-{CODE_SERVER_VERSION}").exists()
    assert not list((home / ".local/lib").iterdir())


@pytest.mark.parametrize("answer", ["good", "half", "missing"])
def test_an_image_without_claude_gets_the_whole_program_or_none(
    with_image: Script, workspace_env: dict[str, str], tmp_path: Path, code_server_root: Path, answer: str
) -> None:
    (code_server_root / "lib/vscode/extensions/anthropic.claude-code").mkdir()
    (tmp_path / "bin" / "claude").unlink()
    claude = b"#!/bin/sh\necho the program\n"
    manifest = {
        "platforms": {"darwin-x64": {"checksum": "0" * 64}, "linux-x64": {"checksum": sha256(claude).hexdigest()}}
    }

    class Release(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  http.server's name
            if self.path == f"/{CLAUDE_VERSION}/manifest.json":
                self.answer(200, manifest)
            elif self.path == f"/{CLAUDE_VERSION}/linux-x64/claude" and answer != "missing":
                sent = claude[:10] if answer == "half" else claude
                self.send_response(200)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)
            else:
                self.answer(404, {})

    with serving(Release) as url:
        done = with_image(CODER_PILOT_CLAUDE_URL=url)
    assert done.returncode == 0
    installed = Path(workspace_env["HOME"]) / ".local" / "bin"
    if answer == "good":
        assert [path.name for path in installed.iterdir()] == ["claude"]
        assert (installed / "claude").read_bytes() == claude
        assert os.access(installed / "claude", os.X_OK)
    else:
        assert f"WARNING: Claude Code {CLAUDE_VERSION} could not be installed" in done.stderr
        assert list(installed.iterdir()) == []


# --- entrypoint.sh


def test_the_entrypoint_runs_the_agents_script(script: Script) -> None:
    done = script("entrypoint.sh", 'echo "in $BINARY_DIR"')
    assert (done.returncode, done.stdout) == (0, "in /tmp/coder-agent\n")


@pytest.mark.parametrize(
    ("missing", "reason"), [("curl", "it has no curl"), ("home", "cannot write")], ids=["no curl", "no writable home"]
)
def test_an_image_that_cannot_be_a_workspace_says_so_in_the_agents_log(
    workspace_env: dict[str, str], fake_coder: FakeCoder, bare_path: Path, missing: str, reason: str
) -> None:
    environment = {**workspace_env, "PATH": str(bare_path), "CODER_AGENT_URL": fake_coder.url}
    if missing == "curl":
        (bare_path / "curl").unlink()
    else:
        environment["HOME"] = "/no/such/folder"
    # Coder does not know the token before the build is over.
    fake_coder.status = 401
    process = subprocess.Popen(["bash", SCRIPTS / "entrypoint.sh", "exit 0"], env=environment, start_new_session=True)
    try:
        fake_coder.wait_for(lambda: bool(fake_coder.requests))
        fake_coder.status = 200
        fake_coder.wait_for(lambda: len(fake_coder.requests) == 2)
        method, path, body = fake_coder.requests[0]
        assert (method, path) == ("PATCH", "/api/v2/workspaceagents/me/logs")
        assert reason in body["logs"][0]["output"]  # type: ignore[index]
        assert fake_coder.tokens == {"agent-token"}
        # It stays, so that the restart policy does not say the same again forever.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        assert len(fake_coder.requests) == 2
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
