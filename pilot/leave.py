"""Leave Coder behind: retire the stack as `down` does, and write <dataDir>/workspace, one script of Python's standard
library that runs the kept homes without Coder. `up` takes everything back."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilot import converge, down, state
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import Session, open_session
from stack.jobs import adoption, commands, engine, names, pilot_file, postgres
from stack.settings import Encrypted, Settings
from toolchain.paths import CHECKOUT

SOURCE = CHECKOUT / "ops" / "workspace.py"
NAME = "workspace"
SCRIPT_LABEL = "coder-pilot.script"
"""Label of the script's containers; its value is the port, which `tailscale serve` may have."""
EMPTY = 'json.loads(r"""{}""")'
SERVE_TIMEOUT_S = 30

WORKSPACES = f"""
SELECT json_build_object(
    'id', workspaces.id, 'name', workspaces.name, 'owner', users.username, 'full_name', users.name,
    'on_cluster', {adoption.OURS_ON_CLUSTER},
    'email', users.email, 'parameters', (
        SELECT json_object_agg(name, value) FROM workspace_build_parameters WHERE workspace_build_id = (
            SELECT id FROM workspace_builds WHERE workspace_id = workspaces.id ORDER BY build_number DESC LIMIT 1
        )
    )
)
FROM workspaces JOIN users ON users.id = workspaces.owner_id JOIN templates ON templates.id = template_id
WHERE NOT workspaces.deleted ORDER BY last_used_at DESC;
"""  # noqa: S608  constants
BUILT = """
SELECT value FROM template_version_variables JOIN templates ON active_version_id = template_version_id
WHERE template_version_variables.name = 'built_images' AND templates.id::text = {template};
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.set_defaults(yes=False, without_dump=False)


def run(arguments: argparse.Namespace) -> int:
    session = open_session(arguments.stack)
    state.clear_lock(session)  # What was cut short is mended before it is read.
    site = session.settings.site
    converge.refuse_other_owner(session)
    if down.purges(session):
        raise PilotError(
            "purgeOnDestroy is true, which would delete the homes: `pulumi config set purgeOnDestroy false`, then "
            "`make up` and this again"
        )
    if not postgres.ready(site.postgres_container, names.ROLE, names.DATABASE):
        raise PilotError("the database, which knows the workspaces, does not run: `make up` first")
    script = write(session.settings, contents(session.settings), session.stack)
    state.say(f"wrote {script}")
    if code := down.run(arguments):
        return code
    print(
        f"Coder is left. The homes go on with {script}, which needs nothing of this checkout; for example:\n"
        f"  sudo install {script} /usr/local/bin/{NAME} && {NAME} ls\n"
        f"`make up` takes everything back"
    )
    return 0


def contents(settings: Settings) -> dict[str, Any]:
    """What the script knows of the pilot. No secret.

    Raises:
        engine.JobError: the database does not answer.
    """
    site, config = settings.site, settings.workspaces
    identifier = postgres.literal(str(pilot_file.template_id(site.data_dir)))
    rows = converge.ask(site, BUILT.format(template=identifier))
    built = json.loads(rows[0]) if rows else {}
    known = [json.loads(row) for row in converge.ask(site, WORKSPACES) if row]
    found = [each for each in known if not each["on_cluster"]]
    if claims := sorted(f"{each['owner']}/{each['name']}" for each in known if each["on_cluster"]):
        state.say(f"the homes of {', '.join(claims)} are claims on the cluster, where they stay: not the script's")
    defaults = {
        "owner": NAME, "folder": "/home/coder", "memory": f"{config.memory_mb}m", "cpus": str(config.cpus),
        "image": built.get(config.images[0], config.images[0]), **(_git(found[0]) if found else _nobody()),
    }  # fmt: skip
    service = {} if isinstance(config.service_environment, Encrypted) else dict(config.service_environment)
    environment = {
        **service,
        **({"TZ": config.timezone} if config.timezone else {}),
        **({"ANTHROPIC_BASE_URL": config.anthropic_base_url} if config.anthropic_base_url else {}),
    }
    options = [
        f"--pids-limit={config.pids}", f"--shm-size={config.shm_mb}m", f"--stop-timeout={config.stop_grace_s + 10}",
        f"--restart={names.RESTART_POLICY}", "--cap-drop=NET_RAW", "--cap-drop=MKNOD", "--log-driver=json-file",
        "--log-opt=max-size=10m", "--log-opt=max-file=3", "--add-host=host.docker.internal:host-gateway",
        *(f"--env={key}={value}" for key, value in environment.items()),
    ]  # fmt: skip
    return {
        "stack": site.name,
        "docker_host": site.docker_host,
        "tailscale": _tailscale(settings),
        "options": options,
        "editor": [
            "--disable-telemetry", "--disable-update-check", "--disable-getting-started-override",
            *([] if config.trust else ["--disable-workspace-trust"]),
        ],
        "defaults": defaults,
        "workspaces": {names.home_volume(each["id"]): {**defaults, **_of(each, built)} for each in found},
    }  # fmt: skip


def _of(row: Mapping[str, Any], built: Mapping[str, str]) -> dict[str, str]:
    """What is known of one; what is not has the default."""
    chosen = row["parameters"] or {}
    known = {"name": row["name"], "owner": row["owner"], **_git(row)}
    if memory := chosen.get("memory_mb"):
        known["memory"] = f"{memory}m"
    if cpus := chosen.get("cpus"):
        known["cpus"] = str(cpus)
    if image := chosen.get("image"):
        known["image"] = built.get(image, image)
    if (repository := chosen.get("git_repository")) is not None:
        # As terraform-template/main.tf names the project's folder.
        last = re.split("[/:]", repository.split("#")[0].rstrip("/"))[-1]
        match = re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,254}?)(?:[.]git)?", last)
        known["folder"] = f"/home/coder/{match[1] if match else 'project'}"
    return known


def _git(row: Mapping[str, Any]) -> dict[str, str]:
    return {"user.name": row["full_name"] or row["owner"], "user.email": row["email"]}


def _nobody() -> dict[str, str]:
    return {"user.name": "", "user.email": ""}


def _tailscale(settings: Settings) -> list[str]:
    if not settings.tailnet.enabled:
        return []
    return ["tailscale", *([f"--socket={settings.tailnet.socket}"] if settings.tailnet.socket else [])]


def write(settings: Settings, known: Mapping[str, Any], stack: str) -> Path:
    """Write the script; where.

    Raises:
        OSError: the data directory cannot be written.
    """
    # JSON has no three quotation marks in a row.
    source = commands.for_stack(SOURCE.read_text(), stack).replace(EMPTY, f'json.loads(r"""{json.dumps(known)}""")', 1)
    file = Path(settings.site.data_dir) / NAME
    partial = file.with_name(f"{NAME}.partial")
    partial.write_text(source)
    partial.chmod(0o755)
    partial.replace(file)
    return file


def take_back(session: Session) -> None:
    """End what the script runs: Coder starts these workspaces again, with the same homes.

    Raises:
        PilotError: the `up` after it would be refused.
        engine.JobError: the engine refused.
    """
    if pilot_file.containers(session.settings.site.data_dir):
        # A pilot that lives took them back when it came up, and the script starts nothing beside one.
        return
    form = f'{{{{.Names}}}}|{{{{.Label "{SCRIPT_LABEL}"}}}}'
    chosen = [f"--filter=label={names.STACK_LABEL}={session.settings.site.name}", f"--filter=label={SCRIPT_LABEL}"]
    found = engine.docker("ps", "--all", *chosen, "--format", form).splitlines()
    if found:
        converge.refuse_whatever_up_refuses(session)
    for line in found:
        name, port = line.split("|")
        state.say(f"stopping {name}, which runs without Coder")
        if tailscale := _tailscale(session.settings):
            subprocess.run(
                [*tailscale, "serve", f"--https={port}", "off"], stdin=subprocess.DEVNULL, capture_output=True,
                check=False, timeout=SERVE_TIMEOUT_S, env=os.environ,
            )  # fmt: skip
        engine.remove_container(name)
