"""Git repositories for a workspace to clone, over plain HTTP, with submodules and files in Git LFS."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

from tests.http_server import QuietHandler, serving

LFS_OBJECTS = "lfs-objects"


class GitHandler(QuietHandler, SimpleHTTPRequestHandler):
    """Serves the files of a folder, and Git LFS's objects of the repositories in it; 500 where those are gone."""

    def do_POST(self) -> None:
        # <repository>/info/lfs/objects/batch
        repository = self.path.partition("/info/lfs/")[0]
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not Path(self.translate_path(f"{repository}/{LFS_OBJECTS}")).is_dir():
            self.answer(500, {"message": "the LFS server is out of order"})
            return
        base = f"http://{self.headers['Host']}{repository}/{LFS_OBJECTS}"
        objects = [
            {**each, "actions": {"download": {"href": f"{base}/{each['oid']}"}}} for each in asked.get("objects", [])
        ]
        self.answer(200, {"transfer": "basic", "objects": objects}, "application/vnd.git-lfs+json")


def git_server(folder: Path, address: str) -> AbstractContextManager[str]:
    """Serves git repositories in `folder` over plain HTTP."""
    return serving(functools.partial(GitHandler, directory=str(folder)), address)


def make_repository(
    folder: Path,
    files: Mapping[str, str],
    *,
    submodules: Mapping[str, tuple[str, str]] | None = None,
    lfs: Mapping[str, str] | None = None,
) -> str:
    """A bare repository that plain HTTP can serve; its commit.

    `submodules` are URL and commit by path, `lfs` the contents of files in Git LFS.
    """
    work = folder.with_suffix(".work")
    work.mkdir()
    modules = "".join(
        f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n' for path, (url, _) in (submodules or {}).items()
    )
    contents = {**files, **{name: _pointer(content) for name, content in (lfs or {}).items()}}
    if modules:
        contents[".gitmodules"] = modules
    if lfs:
        contents[".gitattributes"] = "".join(f"{name} filter=lfs -text\n" for name in lfs)
    for name, content in contents.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(content)
        (work / name).chmod(0o755)
    # Not this machine's configuration: it may have Git LFS's filter.
    author = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **author, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=work, env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch", "main", ".")
    git("add", ".")
    for path, (_, commit) in (submodules or {}).items():
        git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    git("commit", "--quiet", "--message", "First")
    git("clone", "--quiet", "--bare", ".", str(folder))
    git(f"--git-dir={folder}", "update-server-info")
    for content in (lfs or {}).values():
        (folder / LFS_OBJECTS).mkdir(exist_ok=True)
        (folder / LFS_OBJECTS / hashlib.sha256(content.encode()).hexdigest()).write_text(content)
    return git("rev-parse", "HEAD")


def _pointer(content: str) -> str:
    data = content.encode()
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n"
