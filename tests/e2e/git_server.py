"""Git repositories for a workspace to clone, over plain HTTP."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

from tests.http_server import QuietHandler, serving


class FileHandler(QuietHandler, SimpleHTTPRequestHandler):
    """Serves the files of a folder."""


def git_server(folder: Path, address: str) -> AbstractContextManager[str]:
    """Serves git repositories in `folder` over plain HTTP."""
    return serving(functools.partial(FileHandler, directory=str(folder)), address)


def make_repository(folder: Path, files: Mapping[str, str]) -> None:
    """A bare repository that plain HTTP can serve."""
    work = folder.with_suffix(".work")
    work.mkdir()
    for name, content in files.items():
        (work / name).write_text(content)
        (work / name).chmod(0o755)
    author = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (
        ["git", "init", "--quiet", "."],
        ["git", "add", "."],
        ["git", "commit", "--quiet", "--message", "First"],
        ["git", "clone", "--quiet", "--bare", ".", str(folder)],
        ["git", f"--git-dir={folder}", "update-server-info"],
    ):
        subprocess.run(command, cwd=work, env={**os.environ, **author}, check=True, capture_output=True, timeout=60)
