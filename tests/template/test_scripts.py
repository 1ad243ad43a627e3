"""What a start does to a home folder: it fills what is missing, touches nothing that is there, and says what failed.

The scripts run as they are, with real git repositories; only programs that need the internet are stood in for.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from stack.jobs import workspace_secrets
from tests.e2e.git_server import LFS_OBJECTS, git_server, make_repository
from tests.http_server import QuietHandler, serving
from tests.template.template_support import PARTS, SCRIPTS, FakeCoder, Script, with_parts

PINS = dict(re.findall(r"^(\w+_version)=(.+)$", PARTS.read_text(), flags=re.MULTILINE))
CODE_SERVER_VERSION, CLAUDE_VERSION, EXTENSION_VERSION = (
    PINS[f"{part}_version"] for part in ("code_server", "claude", "extension")
)

# A mount or a process 1 of a test's own, without root too.
NAMESPACES = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"])]

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


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    """A Git host over HTTP; its repositories are in tmp_path/host."""
    (tmp_path / "host").mkdir()
    with git_server(tmp_path / "host", "127.0.0.1") as url:
        yield url


@pytest.fixture
def clone(script: Script, host: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs clone.sh for a repository of the host."""

    def run(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
        # As entrypoint.sh makes it, so that the proxy is not asked.
        address = {"CODER_PILOT_GIT_REPOSITORY": f"{host}/{name}", "no_proxy": "127.0.0.1"}
        return script("clone.sh", **{**address, **environment})

    return run


def test_submodules_come_with_the_clone_and_one_that_fails_is_told_by_its_name(
    clone: Script, host: str, project: Path, tmp_path: Path
) -> None:
    inner = make_repository(tmp_path / "host" / "inner.git", {"inner": "inner\n"})
    module = make_repository(
        tmp_path / "host" / "module.git", {"file": "module\n"}, submodules={"below": (f"{host}/inner.git", inner)}
    )
    make_repository(
        tmp_path / "host" / "demo.git",
        {"hello": "hello\n"},
        submodules={"lost": ("https://no-such-host.invalid/x", "1" * 40), "found": (f"{host}/module.git", module)},
    )
    done = clone("demo.git")
    assert done.returncode == 0, done.stderr
    assert (project / "hello").read_text() == "hello\n"
    assert (project / "found" / "file").read_text() == "module\n"
    assert (project / "found" / "below" / "inner").read_text() == "inner\n"
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert "the submodule lost could not be fetched" in warning
    assert "Could not resolve host: no-such-host.invalid" in done.stderr


def test_files_in_git_lfs_come_with_the_clone_and_its_submodules(
    clone: Script, host: str, project: Path, tmp_path: Path
) -> None:
    module = make_repository(tmp_path / "host" / "module.git", {}, lfs={"model": "weights\n"})
    make_repository(
        tmp_path / "host" / "demo.git",
        {},
        lfs={"picture": "pixels\n"},
        submodules={"module": (f"{host}/module.git", module)},
    )
    done = clone("demo.git")
    assert done.returncode == 0, done.stderr
    assert (project / "picture").read_text() == "pixels\n"
    assert (project / "module" / "model").read_text() == "weights\n"
    # A push would bring along what is new.
    assert "git lfs" in (project / ".git" / "hooks" / "pre-push").read_text()
    git("diff", "--exit-code", "HEAD", cwd=project)


def test_an_lfs_server_that_fails_costs_a_warning_and_not_the_clone(
    clone: Script, project: Path, tmp_path: Path
) -> None:
    make_repository(tmp_path / "host" / "demo.git", {"hello": "hello\n"}, lfs={"picture": "pixels\n"})
    shutil.rmtree(tmp_path / "host" / "demo.git" / LFS_OBJECTS)
    done = clone("demo.git")
    assert done.returncode == 0, done.stderr
    assert (project / "hello").read_text() == "hello\n"
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert "files of Git LFS" in warning
    assert "the LFS server is out of order" in done.stderr


def test_an_image_without_git_lfs_says_so_whatever_the_persons_dotfiles_want(
    clone: Script, project: Path, tmp_path: Path, bare_path: Path, workspace_env: dict[str, str]
) -> None:
    make_repository(tmp_path / "host" / "demo.git", {"hello": "hello\n"}, lfs={"picture": "pixels\n"})
    (bare_path / "git-lfs").unlink()
    own = '[filter "lfs"]\n\tprocess = git-lfs filter-process\n\tsmudge = git-lfs smudge -- %f\n\trequired = true\n'
    (Path(workspace_env["HOME"]) / ".gitconfig").write_text(own)
    done = clone("demo.git", PATH=str(bare_path))
    assert done.returncode == 0, done.stderr
    assert (project / "hello").read_text() == "hello\n"
    assert f"the image has no git-lfs, so files in {project} are placeholders of Git LFS (1)" in done.stderr


def test_a_branch_is_cloned_and_one_that_is_not_there_is_told(script: Script, repository: Path, project: Path) -> None:
    git("branch", "feature/one", cwd=repository)
    missing = script("clone.sh", CODER_PILOT_GIT_REPOSITORY=str(repository), CODER_PILOT_GIT_BRANCH="feature/two")
    assert missing.returncode == 1
    assert "feature/two not found" in missing.stderr
    script("clone.sh", CODER_PILOT_GIT_REPOSITORY=str(repository), CODER_PILOT_GIT_BRANCH="feature/one")
    assert (project / ".git" / "HEAD").read_text() == "ref: refs/heads/feature/one\n"


def test_a_shallow_clone_has_one_commit_and_can_get_the_rest(script: Script, repository: Path, project: Path) -> None:
    git("commit", "--allow-empty", "--message", "Second", cwd=repository)
    git("branch", "other", cwd=repository)
    address = f"file://{repository}"
    done = script("clone.sh", CODER_PILOT_GIT_REPOSITORY=address, CODER_PILOT_GIT_SHALLOW="true")
    assert done.returncode == 0, done.stderr
    assert "git fetch --unshallow" in done.stdout

    def commits() -> str:
        counted = ["git", "rev-list", "--count", "HEAD"]
        return subprocess.run(counted, cwd=project, capture_output=True, text=True, check=True).stdout.strip()

    assert commits() == "1"
    git("fetch", "--unshallow", cwd=project)
    assert commits() == "2"
    git("checkout", "other", cwd=project)


def test_a_long_clone_shows_its_progress_as_lines(script: Script, tmp_path: Path) -> None:
    program(
        tmp_path / "bin",
        "git",
        "for percent in 1 2 3; do printf 'Receiving objects: %d%%\\r' $percent; sleep 0.5; done\n"
        "printf 'Receiving objects: 100%%, done.\\nfatal: the end\\n'; exit 1",
    )
    slow = tmp_path / "clone.sh"
    slow.write_text((SCRIPTS / "clone.sh").read_text().replace("progress_interval_s=10", "progress_interval_s=1"))
    done = script(
        slow, CODER_PILOT_GIT_REPOSITORY="https://example.com/huge", PATH=f"{tmp_path}/bin:{os.environ['PATH']}"
    )
    # The last line is our own.
    *progress, done_line, reason, _ = done.stderr.splitlines()
    assert (done_line, reason) == ("Receiving objects: 100%, done.", "fatal: the end")
    # Some of the three, and not each.
    assert 1 <= len(progress) <= 2


def test_a_clone_that_takes_too_long_is_given_up_with_what_to_choose(script: Script, tmp_path: Path) -> None:
    program(tmp_path / "bin", "git", "sleep 60")
    hasty = tmp_path / "clone.sh"
    hasty.write_text((SCRIPTS / "clone.sh").read_text().replace("timeout_s=1800", "timeout_s=1"))
    done = script(
        hasty, CODER_PILOT_GIT_REPOSITORY="https://example.com/huge", PATH=f"{tmp_path}/bin:{os.environ['PATH']}"
    )
    assert done.returncode == 1
    assert 'Choose "Shallow clone"' in done.stderr


def test_a_proxy_that_is_down_is_named_in_the_log(clone: Script, project: Path) -> None:
    done = clone("demo.git", no_proxy="")
    assert done.returncode == 1
    assert "127.0.0.1 port 9" in done.stderr
    assert list(project.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "remote", "told"),
    [
        ("https://example.com/group/demo", "https://example.com/group/demo.git", False),
        ("https://example.com/group/demo.git", "git@example.com:group/demo", False),
        ("https://me@example.com/group/demo/", "ssh://git@example.com/group/demo.git", False),
        ("https://example.com/group/demo", "https://me:s3cret@example.com/other/demo", True),
        ("https://example.com/group/demo", "", True),
    ],
)
def test_a_clone_of_another_repository_is_told_and_left_as_it_is(
    script: Script, project: Path, asked: str, remote: str, told: bool
) -> None:
    project.mkdir()
    git("init", "--quiet", cwd=project)
    if remote:
        git("remote", "add", "upstream", remote, cwd=project)
    done = script("clone.sh", CODER_PILOT_GIT_REPOSITORY=asked)
    assert done.returncode == 0
    assert ("is no clone of example.com/group/demo" in done.stderr) == told
    assert ("example.com/other/demo" in done.stderr) == ("other" in remote)
    assert "s3cret" not in done.stdout + done.stderr


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
mkdir -p "$HOME/site" && cd "$HOME/site" && touch healthz && echo $$ >"$HOME/pid"
exec python3 -m http.server --bind 127.0.0.1 "$port"
"""


@pytest.fixture
def code_server_root(tmp_path: Path) -> Path:
    """An image's code-server in the layout of the npm package."""
    root = tmp_path / "image" / "node_modules" / "code-server"
    (root / "out" / "node").mkdir(parents=True)
    (root / "lib" / "vscode" / "extensions").mkdir(parents=True)
    entry = program(root / "out" / "node", "entry.js", CODE_SERVER)
    program(tmp_path / "bin", "claude", "echo 2.1.332")
    (tmp_path / "bin" / "code-server").symlink_to(entry)
    return root


@pytest.fixture
def with_image(script: Script, code_server_root: Path, tmp_path: Path, free_port: int) -> Script:
    """Runs code-server.sh in an image that has code-server."""

    def run(within: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        return script(
            "code-server.sh",
            within=within,
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
    assert "--disable-workspace-trust" not in call
    assert project.is_dir()


def test_jupyter_is_told_to_let_other_hosts_in(with_image: Script, workspace_env: dict[str, str]) -> None:
    assert with_image().returncode == 0
    file = Path(workspace_env["JUPYTER_CONFIG_PATH"]) / "jupyter_server_config.json"
    assert json.loads(file.read_text()) == {"ServerApp": {"allow_remote_access": True}}


def test_an_owner_who_does_not_want_the_question_of_trust_is_not_asked(
    with_image: Script, workspace_env: dict[str, str]
) -> None:
    assert with_image(CODER_PILOT_WORKSPACE_TRUST="false").returncode == 0
    assert "--disable-workspace-trust" in calls(workspace_env)[0]


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


def test_a_code_server_that_ends_again_and_again_is_reported_with_its_log(
    script: Script, fake_coder: FakeCoder, tmp_path: Path, free_port: int
) -> None:
    program(tmp_path / "bin", "code-server", "echo 'no such module \\x \"a\"' >&2; exit 1")
    program(tmp_path / "bin", "sleep", "exec /bin/sleep 0.1")
    done = script(
        "code-server.sh",
        CODER_PILOT_CODE_SERVER_PORT=str(free_port),
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
    )
    assert done.returncode == 1
    assert "code-server does not stay up" in done.stderr
    *again, gave_up, _, _, _, _, _, end = fake_coder.log()
    assert again == [f"code-server ended with exit code 1; it is started again in {2**each} s." for each in range(4)]
    assert gave_up.startswith("code-server ended 5 times within a minute of its start")
    assert end == 'no such module \\x "a"'


def test_a_code_server_that_is_killed_comes_back(
    with_image: Script, code_server_root: Path, fake_coder: FakeCoder, workspace_env: dict[str, str], free_port: int
) -> None:
    (code_server_root / "lib/vscode/extensions/anthropic.claude-code").mkdir()
    assert with_image().returncode == 0
    os.kill(int((Path(workspace_env["HOME"]) / "pid").read_text()), signal.SIGKILL)
    deadline_s = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{free_port}/healthz", timeout=2):
            break
        assert time.monotonic() < deadline_s, "it did not come back"
        time.sleep(0.1)
    assert fake_coder.log() == ["code-server ended with exit code 137; it is started again in 1 s."]
    assert len(calls(workspace_env)) == 2


def test_a_full_home_is_told_and_has_an_editor(
    with_image: Script, code_server_root: Path, workspace_env: dict[str, str]
) -> None:
    (code_server_root / "lib/vscode/extensions/anthropic.claude-code").mkdir()
    full = "mount -t tmpfs -o size=64k tmpfs ~; dd if=/dev/zero of=$HOME/big 2>/dev/null"
    done = with_image(within=[*NAMESPACES, "--mount", "bash", "-c", f'{full}; "$@"; find ~ -name "*.json*"', "bash"])
    assert "ERROR: your home is full: 0 of 0 MiB are used" in done.stderr
    # A settings file that is cut short would be taken for the user's own at the next start.
    assert done.stdout.splitlines() == ["code-server is up."]


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
        done = with_image(CODER_PILOT_CLAUDE_URL=url, no_proxy="127.0.0.1")
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


def _agent(
    script: Script, folder: Path, agent: str, entrypoint: str | Path = "entrypoint.sh", **environment: str
) -> str:
    """What stands in for the agent's script says."""
    (folder / "init.sh").write_text(agent)
    done = script(entrypoint, BINARY_DIR=str(folder), **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commits_carry_the_owners_name_until_the_person_sets_another(
    script: Script, repository: Path, tmp_path: Path
) -> None:
    image = tmp_path / "gitconfig-of-the-image"
    image.write_text("[user]\n\tname = builder\n[alias]\n\tours = version\n")
    entrypoint = tmp_path / "entrypoint.sh"
    entrypoint.write_text((SCRIPTS / "entrypoint.sh").read_text().replace("/etc/gitconfig", str(image)))
    commit = (
        f"cd {repository} && git ours && git commit --quiet --allow-empty -m x && git log -1 --format='%an <%ae> %cn'"
    )
    name = 'Ann "the \\ hash" # Lee; 1'
    said = _agent(script, tmp_path, commit, entrypoint, CODER_PILOT_GIT_NAME=name)
    assert said.splitlines()[-1] == f"{name} <ann@example.com> {name}"
    own = f"git config --global user.name Own && git config --global user.email own@example.com && {commit}"
    # Also at the next start of the container.
    for command in (own, commit):
        said = _agent(script, tmp_path, command, entrypoint, CODER_PILOT_GIT_NAME=name)
        assert said.splitlines()[-1] == "Own <own@example.com> Own"


def test_a_git_that_is_older_than_our_file_learns_the_name_as_well(
    script: Script, repository: Path, tmp_path: Path
) -> None:
    program(
        tmp_path / "bin",
        "git",
        f'unset GIT_CONFIG_SYSTEM; export GIT_CONFIG_NOSYSTEM=1; exec {shutil.which("git")} "$@"',
    )
    commit = f"cd {repository} && git commit --quiet --allow-empty -m x && git log -1 --format='%an <%ae>'"
    said = _agent(script, tmp_path, commit, PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert said == "Ann <ann@example.com>\n"


@pytest.mark.parametrize(
    ("image", "merged"),
    [
        ({}, "localhost,coder"),
        ({"no_proxy": ".corp"}, ".corp,localhost,coder"),
        ({"NO_PROXY": ".corp"}, ".corp,localhost,coder"),
    ],
)
def test_what_is_here_goes_past_a_proxy_beside_the_images_own_exceptions(
    script: Script, tmp_path: Path, image: dict[str, str], merged: str
) -> None:
    assert _agent(script, tmp_path, 'echo "$no_proxy $NO_PROXY"', **image) == f"{merged} {merged}\n"


def test_every_program_gets_the_secrets_of_the_settings_and_the_containers_environment_does_not(
    script: Script, tmp_path: Path
) -> None:
    value = """it's "quoted" and $HOME is not expanded"""
    workspace_secrets.write(tmp_path, {"ANTHROPIC_API_KEY": value})
    assert _agent(script, tmp_path, 'echo "$ANTHROPIC_API_KEY"', CODER_PILOT_SECRETS_DIR=str(tmp_path)) == f"{value}\n"
    workspace_secrets.write(tmp_path, {})
    assert (
        _agent(script, tmp_path, 'echo "${ANTHROPIC_API_KEY-none}"', CODER_PILOT_SECRETS_DIR=str(tmp_path)) == "none\n"
    )


@pytest.mark.parametrize("name", ["UID", "stop_grace_s", "terminals_grace_s", "term_bit", "agent", "status"])
def test_no_name_of_a_secret_keeps_the_agent_from_its_start_and_its_other_secrets(
    script: Script, tmp_path: Path, name: str
) -> None:
    workspace_secrets.write(tmp_path, {"ANTHROPIC_API_KEY": "key", "ZONE": "last", name: "secret"})
    agent = f'echo "$ANTHROPIC_API_KEY $ZONE ${{{name}-}}"'
    value = os.getuid() if name == "UID" else "secret"
    assert _agent(script, tmp_path, agent, CODER_PILOT_SECRETS_DIR=str(tmp_path)) == f"key last {value}\n"


@dataclass(frozen=True, kw_only=True)
class Container:
    """An entrypoint that is process 1, as in a container."""

    process: subprocess.Popen[str]
    files: Path

    def first(self) -> int:
        """The entrypoint's id outside."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text())

    def written(self, name: str, timeout_s: float = 20) -> str:
        """What a file says, as soon as there is something in it."""
        deadline_s = time.monotonic() + timeout_s
        while not ((self.files / name).exists() and (self.files / name).read_text()):
            assert time.monotonic() < deadline_s, f"no {name}"
            time.sleep(0.05)
        return (self.files / name).read_text()

    def stop(self) -> None:
        """As `docker stop` does."""
        os.kill(self.first(), signal.SIGTERM)
        self.process.wait(timeout=40)


@pytest.fixture
def container(
    workspace_env: dict[str, str], fake_coder: FakeCoder, tmp_path: Path
) -> Iterator[Callable[..., Container]]:
    """Starts an entrypoint, with what stands in for the agent's script."""
    started = []

    def start(agent: str, **environment: str) -> Container:
        (tmp_path / "init.sh").write_text(agent)
        script = with_parts("entrypoint.sh", tmp_path)
        # An engine starts a container with nothing ignored. Tests that run in a script's background ignore a Ctrl-C.
        process = subprocess.Popen(
            ["env", "--default-signal", *NAMESPACES, "--pid", "--fork", "--mount-proc", "--kill-child", "bash", script],
            env={**workspace_env, "BINARY_DIR": str(tmp_path), "CODER_AGENT_URL": fake_coder.url, **environment},
            cwd=tmp_path, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        started.append(process)
        return Container(process=process, files=tmp_path)

    yield start
    for process in started:
        process.kill()
        process.wait(timeout=10)


# Ends one second after a TERM, at once after a HUP.
PROGRAM = """trap 'sleep 1; echo program >>ends; exit' TERM; echo up >up; while :; do sleep 0.1; done"""
AGENT = """trap 'echo agent >>ends; exit' TERM; while :; do sleep 0.1; done"""


# Ends at a TERM, and with it the terminal that it holds: whatever runs in it gets a HUP.
TERMINAL = """python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])'"""


@pytest.mark.parametrize("holder", ["", TERMINAL], ids=["in the background", "in a terminal"])
def test_a_stop_lets_programs_end_and_then_the_agent(container: Callable[..., Container], holder: str) -> None:
    made = container(f"{holder} bash -c {shlex.quote(PROGRAM)} & {AGENT}")
    made.written("up")
    began_s = time.monotonic()
    made.stop()
    assert made.written("ends").split() == ["program", "agent"]
    assert time.monotonic() - began_s < 8
    assert made.process.returncode == 0


def test_a_program_that_ignores_a_stop_is_named_and_killed_after_the_grace(
    container: Callable[..., Container], fake_coder: FakeCoder
) -> None:
    deaf = "bash -c 'trap : TERM; echo up >up; while :; do sleep 0.1; done' &"
    made = container(f"{deaf} {AGENT}", CODER_PILOT_STOP_GRACE_S="1")
    made.written("up")
    made.stop()
    assert made.written("ends") == "agent\n"
    (line,) = fake_coder.log()
    assert re.fullmatch(r"At the stop these did not end within 1 s and were killed: bash \(\d+\)\.", line)


# As Coder's does with the terminals of the dashboard: at a TERM it kills what runs in them.
AGENT_WITH_A_TERMINAL = """exec python3 -c '
import contextlib, os, pty, signal
shell, terminal = pty.fork()
if not shell:
    os.execvp("bash", ["bash", "--norc", "-i"])
signal.signal(signal.SIGTERM, lambda *_: (os.kill(shell, signal.SIGKILL), os._exit(0)))
os.write(terminal, b"echo up >up\\n")
with contextlib.suppress(OSError):
    while os.read(terminal, 1000):
        pass
signal.pause()
'"""


def test_the_shell_of_a_terminal_saves_its_history(container: Callable[..., Container]) -> None:
    made = container(f"export HISTFILE=history; {AGENT_WITH_A_TERMINAL}")
    made.written("up")
    made.stop()
    assert made.written("history") == "echo up >up\n"


def test_the_agent_takes_ctrl_c_and_leaves_no_zombies(container: Callable[..., Container]) -> None:
    orphan = "bash -c 'sleep 0.1 & exec true'; sleep 0.5; grep State: /proc/[0-9]*/status >states"
    made = container(f"{orphan}; grep SigIgn: /proc/$$/status >signals; {AGENT}")
    assert int(made.written("signals").split()[1], 16) & (1 << signal.SIGINT - 1) == 0
    assert "zombie" not in made.written("states")
    made.stop()


def test_an_agent_that_ends_ends_the_container_with_its_exit_code(container: Callable[..., Container]) -> None:
    assert container("exit 3").process.wait(timeout=20) == 3


@pytest.mark.parametrize(
    ("missing", "reason"), [("curl", "it has no curl"), ("home", "cannot write")], ids=["no curl", "no writable home"]
)
def test_an_image_that_cannot_be_a_workspace_says_so_in_the_agents_log(
    workspace_env: dict[str, str], fake_coder: FakeCoder, bare_path: Path, tmp_path: Path, missing: str, reason: str
) -> None:
    environment = {**workspace_env, "PATH": str(bare_path), "CODER_AGENT_URL": fake_coder.url}
    if missing == "curl":
        (bare_path / "curl").unlink()
    else:
        environment["HOME"] = "/no/such/folder"
    # Coder does not know the token before the build is over.
    fake_coder.status = 401
    process = subprocess.Popen(["bash", with_parts("entrypoint.sh", tmp_path)], env=environment, start_new_session=True)
    try:
        fake_coder.wait_for(lambda: bool(fake_coder.requests))
        fake_coder.status = 200
        fake_coder.wait_for(lambda: len(fake_coder.requests) == 2)
        method, path, body = fake_coder.requests[0]
        assert (method, path) == ("PATCH", "/api/v2/workspaceagents/me/logs")
        assert reason in body["logs"][0]["output"]
        assert fake_coder.tokens == {"agent-token"}
        # It stays, so that the restart policy does not say the same again forever.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        assert len(fake_coder.requests) == 2
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
