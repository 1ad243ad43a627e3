"""How pieces are made: the few kinds of recipe, each a frozen dataclass."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolchain.builder import Job
from toolchain.paths import TOOLCHAIN

# The same for every program: a package that two of them have in the same version is compiled once. As the projects
# themselves release them, without C. The compiler leaves out what the linker would strip, and collects less garbage.
GO_ENVIRONMENT = {
    "GOWORK": "off",
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "-trimpath -buildvcs=false -gcflags=all=-dwarf=false",
    "CGO_ENABLED": "0",
    "GOGC": "400",
}


@dataclass(frozen=True, kw_only=True)
class InCache:
    """A recipe whose whole result lies in the cache."""

    def intact(self, directory: Path) -> bool:
        return directory.is_dir()


@dataclass(frozen=True, kw_only=True)
class Binary:
    """One program of a Go module, and where it goes below the piece."""

    output: str
    package: str
    ldflags: str = ""
    tags: str = ""


@dataclass(frozen=True, kw_only=True)
class GoModule(InCache):
    """Programs built from `toolchain/go/<module>`, plus files copied out of one of its dependencies.

    With `embedded` (a piece, a dependency, a folder in it), the piece's files lie in that folder when it is compiled.
    """

    module: str
    binaries: tuple[Binary, ...]
    copied_from: str = ""
    copied: tuple[str, ...] = ()
    embedded: tuple[str, str, str] | None = None
    # A field, so that it is part of the piece's key.
    environment: Mapping[str, str] = field(default_factory=lambda: GO_ENVIRONMENT)

    def sources(self) -> Sequence[Path]:
        return [TOOLCHAIN / "go" / self.module]

    def tools(self) -> Sequence[str]:
        return ["go"]

    def make(self, job: Job) -> None:
        directory = TOOLCHAIN / "go" / self.module
        options = self._embed(job, *self.embedded) if self.embedded else []
        # Some 300 MB, which a `go` that is killed leaves: in the piece's own folder the next build takes it away.
        environment = {**self.environment, "GOTMPDIR": str(job.work)}
        for binary in self.binaries:
            job.run(
                ["go", "build", *options, "-ldflags", f"-s -w {binary.ldflags}".strip(), "-tags", binary.tags,
                 "-o", job.out / binary.output, binary.package],
                cwd=directory,
                env=environment,
            )  # fmt: skip
        for name in self.copied:
            target = job.out / "bin" / Path(name).name
            shutil.copyfile(module_directory(job, self.module, self.copied_from) / name, target)
            target.chmod(0o755)

    def _embed(self, job: Job, piece: str, dependency: str, folder: str) -> list[str]:
        """Go embeds what lies in the module itself: compile a copy of it that has the files."""
        copy = writable_copy(module_directory(job, self.module, dependency), job.work / "module")
        shutil.copytree(job.needs[piece], copy / folder, dirs_exist_ok=True)
        for name in ("go.mod", "go.sum"):
            shutil.copyfile(TOOLCHAIN / "go" / self.module / name, job.work / name)
        job.run(["go", "mod", "edit", f"-replace={dependency}={copy}", job.work / "go.mod"], env=GO_ENVIRONMENT)
        return [f"-modfile={job.work / 'go.mod'}"]


@dataclass(frozen=True, kw_only=True)
class VendorModule(InCache):
    """Programs of a Go module whose go.mod is called vendor.mod, built in a copy that has it under the right name.

    As a dependency, a module without go.mod is compiled as Go 1.16, where a loop has one variable for all its rounds.
    """

    module: str
    dependency: str
    binaries: tuple[Binary, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: GO_ENVIRONMENT)

    def sources(self) -> Sequence[Path]:
        return [TOOLCHAIN / "go" / self.module]

    def tools(self) -> Sequence[str]:
        return ["go"]

    def make(self, job: Job) -> None:
        copy = writable_copy(module_directory(job, self.module, self.dependency), job.work / "module")
        for suffix in ("mod", "sum"):
            (copy / f"vendor.{suffix}").rename(copy / f"go.{suffix}")
        for binary in self.binaries:
            job.run(
                ["go", "build", "-mod=readonly", "-ldflags", f"-s -w {binary.ldflags}".strip(), "-tags", binary.tags,
                 "-o", job.out / binary.output, binary.package],
                cwd=copy,
                env={**self.environment, "GOTMPDIR": str(job.work)},
            )  # fmt: skip


def module_directory(job: Job, module: str, dependency: str) -> Path:
    """Where Go keeps the sources of a dependency of `toolchain/go/<module>`."""
    listed = job.work / "module-directory"
    # Go has no folder for what it did not download yet, and lists "".
    job.run(["go", "mod", "download", dependency], cwd=TOOLCHAIN / "go" / module, env=GO_ENVIRONMENT)
    job.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", dependency],
        cwd=TOOLCHAIN / "go" / module, env=GO_ENVIRONMENT, output=listed,
    )  # fmt: skip
    return Path(listed.read_text().strip())


def writable_copy(source: Path, target: Path) -> Path:
    """A copy that can be changed; Go keeps its own read-only."""
    shutil.copytree(source, target)
    for path in (target, *target.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    return target


@dataclass(frozen=True, kw_only=True)
class PulumiCli(InCache):
    """The CLI with the language host beside it: one that it finds on PATH instead is warned of in every run."""

    def sources(self) -> Sequence[Path]:
        return []

    def tools(self) -> Sequence[str]:
        return []

    def make(self, job: Job) -> None:
        (job.out / "bin").mkdir()
        for need in ("pulumi", "language-python"):
            for program in (job.needs[need] / "bin").iterdir():
                link_or_copy(str(program), str(job.out / "bin" / program.name))


@dataclass(frozen=True, kw_only=True)
class Wheel(InCache):
    """A program or a library from its wheel, as `toolchain/<name>.lock.txt` pins it.

    `folder` is the folder in the wheel that becomes the piece, `links` the links that pip does not make.
    """

    name: str
    folder: str
    links: tuple[tuple[str, str], ...] = ()

    def sources(self) -> Sequence[Path]:
        return [TOOLCHAIN / f"{self.name}.lock.txt"]

    def tools(self) -> Sequence[str]:
        return []

    def make(self, job: Job) -> None:
        job.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes",
             "--target", job.work, "-r", TOOLCHAIN / f"{self.name}.lock.txt"]
        )  # fmt: skip
        shutil.copytree(job.work / self.folder, job.out, dirs_exist_ok=True, symlinks=True, copy_function=link_or_copy)
        for link, target in self.links:
            (job.out / link).unlink(missing_ok=True)
            (job.out / link).symlink_to(target)


@dataclass(frozen=True, kw_only=True)
class PulumiPlugins(InCache):
    """A folder that serves as `plugins` and `dynamic_tf_plugins` of a PULUMI_HOME."""

    plugins: tuple[tuple[str, str], ...]
    coderd_version: str

    def sources(self) -> Sequence[Path]:
        return []

    def tools(self) -> Sequence[str]:
        return []

    def make(self, job: Job) -> None:
        home = job.out
        for name, version in self.plugins:
            binary = job.needs[f"plugin-{name}"] / f"pulumi-resource-{name}"
            job.run(
                [job.needs["pulumi-cli"] / "bin" / "pulumi", "plugin", "install", "resource", name, version,
                 "--file", binary],
                env={"PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"},
            )  # fmt: skip
        # The dynamic bridge looks here before it asks a Terraform registry.
        address = home / "dynamic_tf_plugins" / "registry.opentofu.org" / "coder" / "coderd"
        target = address / self.coderd_version / "linux_amd64" / f"terraform-provider-coderd_v{self.coderd_version}"
        target.parent.mkdir(parents=True)
        shutil.copy2(job.needs["coderd-provider"] / "terraform-provider-coderd", target)


@dataclass(frozen=True, kw_only=True)
class CoderdSdk(InCache):
    """The Python SDK `pulumi_coderd`: its sources as `pulumi install` lays them, and a wheel of them."""

    coderd_version: str

    def sources(self) -> Sequence[Path]:
        return []

    def tools(self) -> Sequence[str]:
        return []

    def make(self, job: Job) -> None:
        home = job.work / "home"
        home.mkdir()
        for name in ("plugins", "dynamic_tf_plugins"):
            (home / name).symlink_to(job.needs["pulumi-plugins"] / name)
        schema = job.work / "schema.json"
        job.run(
            [job.needs["pulumi-cli"] / "bin" / "pulumi", "package", "get-schema", "terraform-provider", "coder/coderd",
             self.coderd_version],
            cwd=job.work,
            env={"PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"},
            output=schema,
        )  # fmt: skip
        sdk = job.out / "sdk"
        job.run([job.needs["pulumi-cli"] / "bin" / "sdkgen", schema, sdk])
        job.run([job.needs["uv"] / "bin" / "uv", "build", "--quiet", "--wheel", "--out-dir", job.out / "wheel", sdk])
        for name in ("build", "pulumi_coderd.egg-info"):
            shutil.rmtree(sdk / name, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class TerraformMirror(InCache):
    """Terraform's filesystem mirror of the template's providers, under the hosts of both registries."""

    providers: tuple[tuple[str, str, str], ...]

    def sources(self) -> Sequence[Path]:
        return []

    def tools(self) -> Sequence[str]:
        return []

    def make(self, job: Job) -> None:
        for namespace, name, version in self.providers:
            binary = job.needs[f"terraform-provider-{name}"] / f"terraform-provider-{name}"
            # OpenTofu resolves an address without a host at its own registry, Terraform at its own.
            for host in ("registry.terraform.io", "registry.opentofu.org"):
                folder = job.out / host / namespace / name / version / "linux_amd64"
                folder.mkdir(parents=True)
                target = folder / f"terraform-provider-{name}_v{version}"
                shutil.copy2(binary, target) if host == "registry.terraform.io" else os.link(
                    job.out / "registry.terraform.io" / target.relative_to(job.out / host), target
                )


@dataclass(frozen=True, kw_only=True)
class NpmProgram(InCache):
    """A program from npm: `toolchain/npm/<name>/build.sh` fills the folder that it is given, with the piece `node`."""

    name: str

    def sources(self) -> Sequence[Path]:
        return [TOOLCHAIN / "npm" / self.name]

    def tools(self) -> Sequence[str]:
        return []

    def make(self, job: Job) -> None:
        copy = job.work / self.name
        shutil.copytree(TOOLCHAIN / "npm" / self.name, copy)
        path = os.pathsep.join([str(job.needs["node"] / "bin"), os.environ.get("PATH", os.defpath)])
        job.run(["bash", copy / "build.sh", job.out], cwd=copy, env={"PATH": path})


@dataclass(frozen=True, kw_only=True)
class CoderDashboard(InCache):
    """The pages of Coder's dashboard, out of the module that `toolchain/go/<module>` builds the server from."""

    module: str
    dependency: str

    def sources(self) -> Sequence[Path]:
        return [TOOLCHAIN / "npm" / "coder-dashboard", TOOLCHAIN / "go" / self.module / "go.mod"]

    def tools(self) -> Sequence[str]:
        return ["go"]

    def make(self, job: Job) -> None:
        scripts = job.work / "scripts"
        shutil.copytree(TOOLCHAIN / "npm" / "coder-dashboard", scripts)
        site = writable_copy(module_directory(job, self.module, self.dependency) / "site", job.work / "site")
        path = os.pathsep.join([str(job.needs["node"] / "bin"), os.environ.get("PATH", os.defpath)])
        job.run(["bash", scripts / "build.sh", job.out, site], cwd=scripts, env={"PATH": path})


@dataclass(frozen=True, kw_only=True)
class DebianRoot(InCache):
    """A minimal Debian root file system, from the Debian mirror that this machine uses."""

    suite: str

    def sources(self) -> Sequence[Path]:
        return []

    def tools(self) -> Sequence[str]:
        return ["mmdebstrap"]

    def make(self, job: Job) -> None:
        job.run(
            ["mmdebstrap", "--variant=minbase", "--include=ca-certificates", self.suite, job.out / "rootfs.tar",
             *debian_mirrors()[:1]]
        )  # fmt: skip


def debian_mirrors() -> list[str]:
    """URIs of the Debian archives in this machine's APT sources; without one mmdebstrap takes its own default."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Created-By: Packages"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return [uri for uri in listed.stdout.split() if uri.rstrip("/").endswith("/debian")]


@dataclass(frozen=True, kw_only=True)
class Image:
    """A Docker image from `toolchain/images/<directory>`; the cache holds its id, the engine the image."""

    tag: str
    directory: str
    context: tuple[tuple[str, str], ...] = ()

    def sources(self) -> Sequence[Path]:
        return [TOOLCHAIN / "images" / self.directory]

    def tools(self) -> Sequence[str]:
        return ["docker"]

    def make(self, job: Job) -> None:
        context = job.work / "context"
        shutil.copytree(TOOLCHAIN / "images" / self.directory, context)
        for need, name in self.context:
            shutil.copytree(job.needs[need], context / name, symlinks=True, copy_function=link_or_copy)
        job.run(["docker", "build", "--tag", self.tag, "--iidfile", job.out / "image-id", context])

    def intact(self, directory: Path) -> bool:
        return image_id(self.tag) == (directory / "image-id").read_text().strip()


@dataclass(frozen=True, kw_only=True)
class ImportedImage:
    """A Docker image imported from a root file system."""

    tag: str

    def sources(self) -> Sequence[Path]:
        return []

    def tools(self) -> Sequence[str]:
        return ["docker"]

    def make(self, job: Job) -> None:
        job.run(["docker", "import", job.needs["debian-root"] / "rootfs.tar", self.tag], output=job.out / "image-id")

    def intact(self, directory: Path) -> bool:
        return image_id(self.tag) == (directory / "image-id").read_text().strip()


def image_id(tag: str) -> str:
    """The id that the engine has under `tag`, "" for none."""
    shown = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Id}}", tag],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return shown.stdout.strip()


def link_or_copy(source: str, target: str) -> None:
    """A second name of the file, a copy on another file system; for `shutil.copytree`."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
