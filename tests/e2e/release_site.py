"""Where the parts of a workspace are downloaded from, on the address where an image's build finds the host.

Stands in for the sites of code-server, Claude Code and Node.js and for the extension market: no registry serves these.
It answers as they do, and badly on demand.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.pilot_fixture import docker
from tests.http_server import QuietHandler, serving

EXTENSION = "anthropic.claude-code"

# The least that answers as a code-server does when an image is built.
SMALL_CODE_SERVER = """#!/bin/bash
case "$*" in
  *--version*) echo 0.0.0 ;;
  *--install-extension*)
    curl --fail --silent --show-error --max-time 20 "${CODER_PILOT_CODE_SERVER_URL%/*}/market/small" || exit
    while [[ $1 != --extensions-dir ]]; do shift; done
    mkdir -p "$2/anthropic.claude-code-0.0.0"
    ;;
esac
"""


@dataclass
class ReleaseSite:
    """The site; `fault` is what is wrong with it: "PART missing", "PART half" or "PART silent", or "market down"."""

    directory: Path
    archive: Path
    claude: Path
    node: Path
    extension: Path | None = None
    stall_s: int = 30
    url: str = ""
    fault: str = ""
    asked: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """What a base image sets so that its build asks here."""
        return {
            "CODER_PILOT_CODE_SERVER_URL": f"{self.url}/code-server",
            "CODER_PILOT_CLAUDE_URL": f"{self.url}/claude",
            "CODER_PILOT_NODE_URL": f"{self.url}/node",
            "CODER_PILOT_STALL_S": str(self.stall_s),
            "EXTENSIONS_GALLERY": json.dumps({"serviceUrl": f"{self.url}/market", "itemUrl": f"{self.url}/market"}),
        }


def small_parts(directory: Path) -> ReleaseSite:
    """A site whose parts are small programs that only tell their version."""
    root = directory / "code-server"
    (root / "lib" / "vscode" / "extensions").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin" / "code-server").write_text(SMALL_CODE_SERVER)
    (root / "bin" / "code-server").chmod(0o755)
    claude = directory / "claude"
    claude.write_text("#!/bin/bash\necho 0.0.0\n")
    (directory / "node" / "bin").mkdir(parents=True)
    for name in ("node", "npm"):
        shutil.copy2(claude, directory / "node" / "bin" / name)
        (directory / "node" / "bin" / name).chmod(0o755)
    archive = pack(root, directory / "code-server.tar.gz")
    node = pack(directory / "node", directory / "node.tar.gz")
    return ReleaseSite(directory=directory, archive=archive, claude=claude, node=node, stall_s=3)


def pack(folder: Path, archive: Path) -> Path:
    """`folder` as a release archive has it, with one folder at the top."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, arcname="code-server-release")
    return archive


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def running(site: ReleaseSite) -> Iterator[ReleaseSite]:
    """The site, answering."""
    checksum, node_checksum = (_sha256(file) for file in (site.claude, site.node))

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  http.server's name
            site.asked.append(self.path)
            if self.path.startswith("/code-server/"):
                self._send("code-server", site.archive)
            elif self.path.endswith("/manifest.json"):
                self.answer(200, {"platforms": {"linux-x64": {"checksum": checksum}}})
            elif self.path.startswith("/claude/"):
                self._send("claude", site.claude)
            elif self.path.endswith("/SHASUMS256.txt"):
                # The real list has a line for each file of the release.
                name = f"node-{self.path.split('/')[2]}-linux-x64.tar.gz"
                self.reply(200, f"{'0' * 64}  {name.replace('.gz', '.xz')}\n{node_checksum}  {name}\n".encode())
            elif self.path.startswith("/node/"):
                self._send("node", site.node)
            elif self.path.startswith("/market/") and site.fault != "market down":
                if site.extension is None:
                    self.answer(200, {})
                elif self.path.endswith("/Microsoft.VisualStudio.Code.Manifest"):
                    with zipfile.ZipFile(site.extension) as vsix:
                        self.answer(200, json.loads(vsix.read("extension/package.json")))
                else:
                    self._send("market", site.extension)
            else:
                self.answer(404, {})

        def do_POST(self) -> None:  # noqa: N802  http.server's name
            site.asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            if site.fault == "market down":
                self.answer(503, {})
            else:
                self.answer(200, market_answer(site))

        def _send(self, part: str, file: Path) -> None:
            if site.fault == f"{part} silent":
                # Until the client has enough of it.
                self.rfile.read(1)
                return
            if site.fault == f"{part} missing":
                self.answer(404, {})
                return
            size = file.stat().st_size
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            with file.open("rb") as stream, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                left = size // 2 if site.fault == f"{part} half" else size
                while left > 0:
                    self.wfile.write(stream.read(min(left, 2**20)))
                    left -= 2**20

    # The host's own address there: the first of the network.
    subnet = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", "bridge")
    with serving(Handler, str(ipaddress.ip_network(subnet)[1])) as url:
        site.url = url
        yield site


def market_answer(site: ReleaseSite) -> dict[str, Any]:
    """What the gallery's `extensionquery` says of the one extension here, whatever was asked.

    The shape is the one that VS Code's extensionGalleryService reads.
    """
    publisher, name = EXTENSION.split(".")
    asset = f"{site.url}/market/asset"
    version = {
        "version": "1.0.60",
        "lastUpdated": "2025-07-24T00:00:00.000Z",
        "assetUri": asset,
        "fallbackAssetUri": asset,
        "files": [
            {"assetType": asset_type, "source": f"{asset}/{asset_type}"}
            for asset_type in ("Microsoft.VisualStudio.Services.VSIXPackage", "Microsoft.VisualStudio.Code.Manifest")
        ],
        "properties": [{"key": "Microsoft.VisualStudio.Code.Engine", "value": "^1.94.0"}],
    }
    extension = {
        "publisher": {"displayName": publisher, "publisherId": "00000000-0000-4000-8000-000000000001",
                      "publisherName": publisher},
        "extensionId": "00000000-0000-4000-8000-000000000002",
        "extensionName": name,
        "displayName": "Claude Code",
        "flags": "validated",
        "releaseDate": "2025-07-24T00:00:00.000Z",
        "publishedDate": "2025-07-24T00:00:00.000Z",
        "lastUpdated": "2025-07-24T00:00:00.000Z",
        "shortDescription": "",
        "versions": [version],
        "statistics": [],
        "tags": [],
        "categories": [],
    }  # fmt: skip
    count = {"metadataType": "ResultCount", "metadataItems": [{"name": "TotalCount", "count": 1}]}
    return {"results": [{"extensions": [extension], "pagingToken": None, "resultMetadata": [count]}]}
