"""The images that workspaces start from: each base of the settings with code-server, Claude Code and tools in it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from stack import job, settings, told
from stack.bundle import CHECKOUT, ROOT, Bundle, sources

BUNDLE = Bundle(name="workspace-image", sources=sources(CHECKOUT / "workspace-image", "Dockerfile", "*.sh"))
PARTS = CHECKOUT / "workspace-image" / "parts.sh"
"""How a part is installed; the template needs it too, for an image that lacks one."""

REGISTRY = "localhost"
"""No image of ours is ever looked for elsewhere: Docker asks no other registry for a name that begins so."""
HASH_LENGTH = 12
LOG_TAIL_LINES = 20
# The kernel's words, and curl's, which does not repeat them.
DISK_FULL = ("no space left on device", "failure writing output to destination")


class WorkspaceImages(pulumi.ComponentResource):
    """Declares, for each base, the base and the image that is built on it.

    Attributes:
        names: a JSON object, from each base to its image.
    """

    names: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        config: settings.Workspaces,
        site: settings.Site,
        *,
        provider: docker.Provider,
        after: Sequence[pulumi.Resource],
    ) -> None:
        """`after` lists what makes the data directory."""
        super().__init__(
            "coder-pilot:workspace-image:WorkspaceImages", name, None, pulumi.ResourceOptions(providers=[provider])
        )
        BUNDLE.lay()
        attempts = _attempts(config.images, site)
        built = {base: self._image(site.name, base, attempts) for base in config.images}
        record = job.declare(
            "workspace-image-record",
            "workspace_images",
            environment={
                "DOCKER_HOST": site.docker_host,
                "DATA_DIRECTORY": site.data_dir,
                "IMAGES": pulumi.Output.json_dumps(
                    {base: {"name": image.name, "id": image.image_id} for base, image in built.items()}
                ),
                "ATTEMPTS": pulumi.Output.json_dumps(attempts),
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )
        pulumi.Output.unsecret(record.stdout).apply(_warn)
        self.names = pulumi.Output.json_dumps({base: image.name for base, image in built.items()})
        self.register_outputs({"names": self.names})

    def _image(self, stack: str, base: str, attempts: pulumi.Output[dict[str, int]]) -> docker.RemoteImage:
        slug = settings.slug(base)
        child = pulumi.ResourceOptions(parent=self)
        named = pulumi.ErrorHook(f"name-{slug}", lambda _: _name(base))
        found = docker.RemoteImage(
            f"base-{slug}", name=base, keep_locally=True, opts=pulumi.ResourceOptions.merge(child, _on_error(named))
        )
        log = _log(base)
        if not pulumi.runtime.is_dry_run():
            # The provider appends: what an earlier build said must not be taken for this one's.
            log.unlink(missing_ok=True)
        explain = pulumi.ErrorHook(f"explain-{slug}", lambda _: _explain(base, log))
        return docker.RemoteImage(
            f"workspace-image-{slug}",
            name=found.image_id.apply(lambda image_id: image_name(stack, slug, base, image_id)),
            # A parked workspace may need it; stack/jobs/workspace_images.py removes what nothing uses any more.
            keep_locally=True,
            build=docker.RemoteImageBuildArgs(
                context=BUNDLE.directory.as_posix(),
                build_args={"BASE": base, "STACK": stack, "ATTEMPT": attempts.apply(lambda of: str(of[base]))},
                build_log_file=log.as_posix(),
            ),
            opts=pulumi.ResourceOptions.merge(child, _on_error(explain)),
        )


def image_name(stack: str, slug: str, base: str, base_id: str) -> str:
    """The name of the image on `base`: another exactly when what it is made of is another."""
    inputs = "\0".join((BUNDLE.digest(), stack, base, base_id))
    return f"{REGISTRY}/{stack}-workspace:{slug[:100]}-{hashlib.sha256(inputs.encode()).hexdigest()[:HASH_LENGTH]}"


def _attempts(bases: Sequence[str], site: settings.Site) -> pulumi.Output[dict[str, int]]:
    """How often each image was to be built: one more than the last time where it is gone, or a download failed.

    On `up` the look also removes older images that nothing uses.
    """
    return command.local.run_output(
        command=job.line("workspace_images", "look" if pulumi.runtime.is_dry_run() else "tend"),
        environment={
            "DOCKER_HOST": site.docker_host,
            "DATA_DIRECTORY": site.data_dir,
            "STACK": site.name,
            "BASES": json.dumps(list(bases)),
        },
        logging=command.local.Logging.NONE,
    ).stdout.apply(json.loads)


def _warn(stdout: str) -> None:
    said = json.loads(stdout)
    for base in said["incomplete"]:
        told.warn(
            f"the workspace image of {base} has no Claude Code extension: the extension market did not answer. "
            "The next `up` tries again, and so does each start of a workspace"
        )
    # A preview of a new release may see what an earlier one printed.
    for base, lacking in said.get("lacking", {}).items():
        told.warn(
            f"the workspace image of {base} lacks these tools: {', '.join(lacking['tools'])}. "
            + (
                f"{_log(base)} says why; the next `up` tries again"
                if lacking["again"]
                else "There is no package of them for it: install them in the base image, or do without"
            )
        )


def _log(base: str) -> Path:
    return ROOT / f"{BUNDLE.name}-{settings.slug(base)}.log"


def _on_error(hook: pulumi.ErrorHook) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(on_error=[hook]))


def _name(base: str) -> bool:
    told.error(
        f"the base image {base} of the setting workspaceImages cannot be pulled; the reason is below. "
        "Workspaces keep the images that they have"
    )
    return False


def _explain(base: str, log: Path) -> bool:
    """Tell what the build of the image on `base` said at its end; no second attempt."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    said = [match[1] for line in lines if (match := re.match(r"#\d+ [\d.]+ ERROR: (.*)", line))]
    full = any(words in line.lower() for line in lines for words in DISK_FULL)
    told.error(
        "\n".join(
            [
                f"no workspace image could be built from {base}{': ' if said else ''}{said[-1] if said else ''}",
                *(
                    ["free some space, for example with `docker builder prune` and `docker image prune`"]
                    if full
                    else []
                ),
                f"workspaces keep the images that they have; the end of {log}:",
                *(f"  | {line}" for line in lines[-LOG_TAIL_LINES:]),
            ]
        )
    )
    return False
