#!/usr/bin/env python3
"""Project containers without Coder: the homes, the image and the limits of a Coder pilot that ended with `make leave`.

usage: workspace ls | up NAME | down NAME | new NAME [REPOSITORY]
"""

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

PILOT = json.loads(r"""{}""")  # `make leave` fills it in.
HOME, INNER, SCRIPT = "/home/coder", 8080, "coder-pilot.script"
LABELS = {"stack": "coder-pilot.stack", "id": "coder.workspace_id", "owner": "coder.owner",
          "name": "coder.workspace_name", "folder": "coder-pilot.folder"}  # fmt: skip
LISTED = "|".join(["{{.Name}}", *(f'{{{{.Label "{label}"}}}}' for label in LABELS.values())])
os.environ.setdefault("DOCKER_HOST", PILOT.get("docker_host", ""))


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"error: `{words[0]} {words[1]}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def workspaces() -> dict[str, dict]:
    """Each home that is there by its workspace's name, with the owner's before it where two have the same."""
    found = []
    for volume, *values in (line.split("|") for line in run("docker", "volume", "ls", "--format", LISTED).splitlines()):
        told = {key: value for key, value in zip(LABELS, values, strict=True) if value}
        if volume in PILOT["workspaces"] or (told.get("stack") == PILOT["stack"] and "name" in told):
            found.append({**PILOT["defaults"], "volume": volume, **told, **PILOT["workspaces"].get(volume, {})})
    names = [each["name"] for each in found]
    return {f"{each['owner']}/" * (names.count(each["name"]) > 1) + each["name"]: each for each in found}


def container(workspace: dict) -> str:
    return f"{PILOT['stack']}.{workspace['owner']}.{workspace['name']}".lower()  # As Coder calls it: one of them runs.


def port_of(workspace: dict, *more: str) -> str:
    """Where the editor of one that runs is; with "-a" of one that ended, too."""
    return run("docker", "ps", *more, f"--filter=name=^{container(workspace)}$", f'--format={{{{.Label "{SCRIPT}"}}}}')


def free_port(workspace: dict) -> str:
    """The same one every time, if nobody else has it."""
    for port in (7100 + (sum(workspace["volume"].encode()) * 7 + offset) % 800 for offset in range(800)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return str(port)
    sys.exit("error: no port from 7100 to 7899 is free")


def password_file(workspace: dict) -> str:
    file = Path.home() / ".config" / "workspace" / f"{workspace['volume']}.env"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"PASSWORD={secrets.token_urlsafe(16)}\n")
    return str(file)


def labels(workspace: dict) -> list[str]:
    told = {**workspace, "stack": PILOT["stack"], "id": workspace["volume"][6:-5]}
    return [f"--label={label}={told[key]}" for key, label in LABELS.items()]


def tell(name: str, workspace: dict, port: str) -> None:
    folder = f"?folder={workspace['folder']}"
    print(f"editor    http://{workspace['name'].lower()}.localhost:{port}/{folder}")
    print(f"over SSH  ssh -L {port}:localhost:{port} {socket.gethostname()}")
    print(f"password  cut -d= -f2- {password_file(workspace)}\nto park   {sys.argv[0]} down {name}")
    if tailscale := PILOT["tailscale"]:
        run(*tailscale, "serve", "--bg", f"--https={port}", f"http://127.0.0.1:{port}")
        machine = json.loads(run(*tailscale, "status", "--json"))["Self"]["DNSName"].rstrip(".")
        print(f"tailnet   https://{machine}:{port}/{folder}")


def up(name: str, workspace: dict, repository: str = "") -> None:
    if port := port_of(workspace):
        return tell(name, workspace, port)
    box, image, port = container(workspace), workspace["image"], free_port(workspace)
    if not run("docker", "image", "ls", "--quiet", image):
        sys.exit(f"error: the image {image} is gone: `make up` and `make leave`, in the pilot's checkout, build it")
    down(workspace)
    run("docker", "run", "--detach", "--init", f"--name={box}", f"--publish=127.0.0.1:{port}:{INNER}",
        f"--volume={workspace['volume']}:{HOME}", f"--hostname={workspace['name'].lower()}", f"--env=HOME={HOME}",
        f"--memory={workspace['memory']}", f"--memory-swap={workspace['memory']}", f"--cpus={workspace['cpus']}",
        f"--env-file={password_file(workspace)}", f"--env=CODE_SERVER_COOKIE_SUFFIX={workspace['volume']}",
        *PILOT["options"], *labels(workspace), f"--label={SCRIPT}={port}", "--entrypoint=code-server", image,
        "--auth=password", f"--bind-addr=0.0.0.0:{INNER}", *PILOT["editor"])  # fmt: skip
    run("docker", "exec", box, "mkdir", "-p", workspace["folder"], check=False)
    for key in ("user.name", "user.email"):
        run("docker", "exec", "--user=0", box, "git", "config", "--system", key, workspace[key], check=False)
    clone = ["docker", "exec", box, "git", "clone", "--recurse-submodules", "--", repository, workspace["folder"]]
    if repository and subprocess.run(clone, check=False).returncode:
        print("warning: it was not cloned, the reason is above; clone it in the editor's terminal", file=sys.stderr)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    for _ in range(120):
        with contextlib.suppress(OSError), direct(f"http://127.0.0.1:{port}/healthz", timeout=2):
            return tell(name, workspace, port)
        time.sleep(0.5)
    sys.exit(f"error: the editor does not answer; `docker logs {box}` says why")


def down(workspace: dict) -> None:
    if PILOT["tailscale"] and (port := port_of(workspace, "-a")):
        run(*PILOT["tailscale"], "serve", f"--https={port}", "off", check=False)
    for command in ("stop", "rm") if run("docker", "ps", "-aq", f"--filter=name=^{container(workspace)}$") else ():
        run("docker", command, container(workspace))


def main(command: str = "", name: str = "", repository: str = "", *more: str) -> None:
    if command not in ("ls", "up", "down", "new") or (command == "ls") == bool(name) or more:
        sys.exit((__doc__ or "").strip())
    found = workspaces()
    if command in ("up", "down") and name not in found:
        sys.exit(f"error: there is no home of {name}; there are: {', '.join(sorted(found)) or 'none'}")
    if command in ("up", "new") and run("docker", "ps", "--all", "--quiet", f"--filter=name=^{PILOT['stack']}-server$"):
        sys.exit("error: Coder is there, and the homes are its own: start the workspace there, or `make leave` first")
    if command == "new":
        if not re.fullmatch("[A-Za-z0-9]+(-[A-Za-z0-9]+)*", name) or len(name) > 32:
            sys.exit(f"error: {name!r} is no name: give up to 32 letters, digits and single hyphens")
        if name.lower() in {each["name"].lower() for each in found.values()}:
            sys.exit(f"error: {name} is there already: `{sys.argv[0]} up {name}`")
        folder = f"{HOME}/{re.split('[/:]', repository.rstrip('/').removesuffix('.git'))[-1] or name}"
        found[name] = {**PILOT["defaults"], "volume": f"coder-{uuid.uuid4()}-home", "name": name, "folder": folder}
        run("docker", "volume", "create", *labels(found[name]), found[name]["volume"])
    if command == "ls":
        for called, each in sorted(found.items()):
            print(f"{called:32}  {f'127.0.0.1:{port}' if (port := port_of(each)) else 'parked'}")
    elif command == "down":
        down(found[name])
    else:
        up(name, found[name], repository if command == "new" else "")


if __name__ == "__main__":
    main(*sys.argv[1:])
