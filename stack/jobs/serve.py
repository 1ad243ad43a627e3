#!/usr/bin/env python3
"""Let the tailnet, and nobody else, reach Coder: two `tailscale serve` entries on this machine.

    https=443    -> http://127.0.0.1:<port>   the certificate makes the browser's secure context that webviews need
    http=<port>  -> http://127.0.0.1:<port>   the address people had before there was a certificate

`check` changes nothing: it verifies what must be true first and prints the address. `apply` makes the entries so and
reads them back; what an earlier `apply` configured and is no longer wanted goes. `remove` takes off what `apply`
configured. Both find the earlier configuration in PULUMI_COMMAND_STDOUT, which pulumi-command sets to the output of the
last run. An entry that leads anywhere else than where we pointed it is somebody else's and is never touched, so
`tailscale serve reset` is never used.

One JSON object on standard output, everything for people on standard error. Exit status 1: refused, and why.

Every call of `tailscale` ends within `--timeout-s` and finds its standard input closed: on a tailnet without HTTPS
`tailscale serve` waits for ever for somebody to enable it, or exits 0 having done nothing (cmd/tailscale/cli,
enableFeatureInteractive, read at v1.98.10).
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ADMIN_PAGE = "https://login.tailscale.com/admin/dns"
HTTPS_PORT = 443
MIN_VERSION = (1, 60)
"""Since 1.60 `serve` has only the syntax used here; an older one may accept it and do something else."""

Json = dict[str, Any]


class RefusedError(Exception):
    """Something that must be true is not; the message tells what to do about it."""


class UnreachableError(RefusedError):
    """There is no tailscale, or no tailscaled that could serve anything now."""


@dataclass(frozen=True)
class Entry:
    """One port of this node on the tailnet, whole (mounted at "/"), led to a port of loopback."""

    scheme: str
    port: int
    host: str
    target: str

    @property
    def name(self) -> str:
        return f"{self.scheme}={self.port}"

    @property
    def mode(self) -> Json:
        """How tailscaled describes a port that speaks this scheme (ipn.TCPPortHandler)."""
        return {self.scheme.upper(): True}

    @property
    def web(self) -> str:
        """The key of `Web` in tailscaled's serve configuration (ipn.HostPort)."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Step:
    """Arguments of one call of `tailscale`, and what it reads on standard input."""

    args: list[str]
    stdin: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tailscale:
    """The `tailscale` of PATH, talking to the tailscaled behind `socket` (None: the system's)."""

    socket: str | None = None
    timeout_s: float = 20.0
    program: list[str] = field(init=False)

    def __post_init__(self) -> None:
        socket = [f"--socket={self.socket}"] if self.socket else []
        object.__setattr__(self, "program", ["tailscale", *socket])

    def run(self, step: Step) -> subprocess.CompletedProcess[str]:
        command = [*self.program, *step.args]
        feed: Json = {"stdin": subprocess.DEVNULL} if step.stdin is None else {"input": step.stdin}
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=self.timeout_s, check=False, **feed)
        except FileNotFoundError:
            raise UnreachableError(
                "There is no `tailscale` on PATH. Install it (https://tailscale.com/download) and log in, "
                "or switch the tailnet off in this stack's settings."
            ) from None
        except subprocess.TimeoutExpired as expired:
            # Text mode or not, what a killed child had written comes as bytes.
            parts = [part for part in (expired.stdout, expired.stderr) if isinstance(part, bytes)]
            said = quoted(b"".join(parts).decode(errors="replace"))
            raise RefusedError(f"`{shlex.join(command)}` did not end within {self.timeout_s:g} s.{said}") from None

    def text(self, *args: str) -> str:
        """Standard output of a call that only reads."""
        done = self.run(Step(list(args)))
        if done.returncode == 0:
            return done.stdout
        if "failed to connect" in done.stderr:
            where = f" at {self.socket}" if self.socket else ""
            raise UnreachableError(f"tailscaled does not answer{where}. Start it: sudo systemctl start tailscaled")
        raise RefusedError(f"`{shlex.join([*self.program, *args])}` failed.{quoted(done.stderr)}")

    def object(self, *args: str) -> Json:
        text = self.text(*args)
        try:
            parsed = json.loads(text)
        except ValueError:
            raise RefusedError(f"`{shlex.join([*self.program, *args])}` did not print JSON.{quoted(text)}") from None
        return parsed or {}  # `serve status --json` says null where nothing was ever served

    def change(self, step: Step) -> None:
        done = self.run(step)
        if "denied" in done.stderr.lower():
            raise RefusedError(no_right(self.program))
        if done.returncode != 0:
            command = shlex.join([*self.program, *step.args])
            raise RefusedError(f"`{command}` failed.{quoted(done.stderr or done.stdout)}")


def quoted(text: str) -> str:
    return f" It said: {' '.join(text.split())}" if text.strip() else ""


def no_right(program: Sequence[str]) -> str:
    user = pwd.getpwuid(os.geteuid()).pw_name
    return (
        f"{user} may not change what this machine serves on the tailnet. Allow it: "
        f"sudo {shlex.join([*program, 'set', f'--operator={user}'])}"
    )


def version(text: str) -> tuple[int, ...]:
    """(1, 98, 10) for "1.98.10-t0123abc"; () when there is none."""
    found = re.match(r"\d+(\.\d+)*", text.strip())
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def require_version(what: str, text: str) -> None:
    if version(text) < MIN_VERSION:
        found, least = text.strip() or "of unknown version", ".".join(map(str, MIN_VERSION))
        raise RefusedError(f"{what} is {found}; {least} or newer is needed. Update Tailscale.")


def node_name(status: Json, expected: str | None) -> str:
    """This node's name on the tailnet, once it is on it and may have a certificate.

    `status` is `tailscale status --json`. A node has the capability "https" when its tailnet has HTTPS enabled.

    Raises:
        RefusedError: the node is not connected, is not called `expected`, or cannot have a certificate.
    """
    state = status.get("BackendState", "")
    if state == "NeedsLogin":
        raise UnreachableError("This machine is logged out of its tailnet. Log in: sudo tailscale up")
    if state == "Stopped":
        raise UnreachableError("This machine is disconnected from its tailnet. Connect it: sudo tailscale up")
    if state == "NeedsMachineAuth":
        raise UnreachableError("This machine waits for approval: https://login.tailscale.com/admin/machines")
    if state != "Running":
        raise UnreachableError(f"tailscaled is not connected yet (state {state or 'unknown'}). Try again in a moment.")
    node = status.get("Self") or {}
    host = str(node.get("DNSName", "")).rstrip(".")
    certificates = status.get("CertDomains") or []
    if "https" not in (node.get("CapMap") or {}) or not host or host not in certificates:
        raise RefusedError(
            f"HTTPS certificates are not enabled for this tailnet. Enable MagicDNS and HTTPS: {ADMIN_PAGE}"
        )
    if expected and expected not in (host, host.split(".")[0]):
        raise RefusedError(
            f"This machine is {host} on the tailnet, the settings expect {expected}. Rename the machine "
            "(https://login.tailscale.com/admin/machines) or correct the tailnet name in the settings."
        )
    return host


def wanted_entries(host: str, port: int) -> list[Entry]:
    target = f"http://127.0.0.1:{port}"
    return [Entry("https", HTTPS_PORT, host, target), Entry("http", port, host, target)]


def handler(config: Json, entry: Entry) -> Json:
    """What the entry's host and port lead to at "/", {} when nothing does."""
    found = (config.get("Web") or {}).get(entry.web) or {}
    return (found.get("Handlers") or {}).get("/") or {}


def port_mode(config: Json, entry: Entry) -> Json:
    return (config.get("TCP") or {}).get(str(entry.port)) or {}


def in_place(config: Json, entry: Entry) -> bool:
    """Whether `config` (`tailscale serve status --json`) has this entry, exactly."""
    return handler(config, entry).get("Proxy") == entry.target and port_mode(config, entry) == entry.mode


def configurations(config: Json) -> Iterator[Json]:
    """The lasting configuration, then those that live as long as a `tailscale serve` in some terminal."""
    yield config
    yield from (config.get("Foreground") or {}).values()


def require_private(config: Json, entries: Sequence[Entry]) -> None:
    for part in configurations(config):
        for web, public in (part.get("AllowFunnel") or {}).items():
            for entry in entries:
                if public and web.rpartition(":")[2] == str(entry.port):
                    raise RefusedError(
                        f"Port {entry.port} is public: a Tailscale Funnel is on for {web}, and Coder must never be "
                        f"on the internet. Switch it off: tailscale funnel --https={entry.port} off"
                    )


def require_free(config: Json, entry: Entry, ours: Sequence[str]) -> None:
    """Refuse when the port of `entry` is held by somebody who is not us.

    Other paths on the same port are somebody's too, but stand beside ours: they stay and do not hinder.

    Args:
        ours: what "/" may lead to and still be ours to change.
    """
    held = f"Port {entry.port} of the tailnet, wanted for {entry.name}, is held by somebody else: "
    free = "It is left alone; free the port (tailscale serve --help) or choose another one."
    for part in configurations(config):
        mode = port_mode(part, entry)
        if part is not config and mode:
            raise RefusedError(f"{held}a `tailscale serve` or `tailscale funnel` that runs in a terminal. {free}")
        if mode and mode != entry.mode:
            raise RefusedError(f"{held}{json.dumps(mode)}. {free}")
        at_root = handler(part, entry)
        if at_root and at_root.get("Proxy") not in ours:
            raise RefusedError(f"{held}{entry.scheme}://{entry.web}/ leads to {json.dumps(at_root)}. {free}")


def add(entry: Entry) -> Step:
    return Step(["serve", "--bg", f"--{entry.name}", entry.target])


def take_off(entry: Entry) -> Step:
    """`--set-path=/`: without it `off` would take every path of the port, ours or not."""
    return Step(["serve", f"--{entry.name}", "--set-path=/", "off"])


def take_off_raw(config: Json, entries: Sequence[Entry]) -> Step:
    """Remove entries that `serve … off` does not reach: those under an earlier name of a node that was renamed.

    `set-raw` (cmd/tailscale/cli/serve_v2.go) replaces the whole configuration, so everything else goes back as it came.
    """
    rest: Json = json.loads(json.dumps(config))
    for entry in entries:
        del rest["Web"][entry.web]["Handlers"]["/"]
        if not rest["Web"][entry.web]["Handlers"]:
            del rest["Web"][entry.web]
        if not any(web.rpartition(":")[2] == str(entry.port) for web in rest["Web"]):
            rest["TCP"].pop(str(entry.port), None)
    return Step(["serve", "set-raw"], json.dumps(rest))


def removals(config: Json, entries: Sequence[Entry], host: str) -> list[Step]:
    """Steps that take `entries` off, those of them that are still there and still lead where we pointed them."""
    still = [entry for entry in entries if in_place(config, entry)]
    renamed = [entry for entry in still if entry.host != host]
    steps = [take_off_raw(config, renamed)] if renamed else []
    return steps + [take_off(entry) for entry in still if entry.host == host]


def plan(config: Json, wanted: Sequence[Entry], previous: Sequence[Entry]) -> list[Step]:
    """Steps from what is served now to `wanted`; none when everything is in place.

    Args:
        previous: what we configured the last time: ours to point elsewhere, and to take off.

    Raises:
        RefusedError: before anything was changed, if a port is public or somebody else's.
    """
    require_private(config, wanted)
    for entry in wanted:
        require_free(config, entry, [entry.target, *(old.target for old in previous if old.web == entry.web)])
    keys = {(entry.scheme, entry.web) for entry in wanted}
    obsolete = [old for old in previous if (old.scheme, old.web) not in keys]
    return removals(config, obsolete, wanted[0].host) + [add(entry) for entry in wanted if not in_place(config, entry)]


def previous_entries() -> list[Entry]:
    text = os.environ.get("PULUMI_COMMAND_STDOUT", "").strip()
    return [Entry(**entry) for entry in json.loads(text)["entries"]] if text else []


def require_right(tailscale: Tailscale) -> None:
    """tailscaled lets root, the user it runs as and one named operator change it (ipn/ipnauth, IsReadonlyConn)."""
    me = os.geteuid()
    if me == 0 or (tailscale.socket and Path(tailscale.socket).stat().st_uid == me):
        return
    if tailscale.object("debug", "prefs").get("OperatorUser") not in (pwd.getpwuid(me).pw_name, str(me)):
        raise RefusedError(no_right(tailscale.program))


def verified(tailscale: Tailscale, expected: str | None, port: int) -> tuple[list[Entry], Json]:
    """The entries that this machine should have, and its serve configuration, once every precondition holds."""
    if port == HTTPS_PORT:
        raise RefusedError(f"Coder's port cannot be {HTTPS_PORT}: on the tailnet that one is for https.")
    require_version("The `tailscale` on PATH", tailscale.text("version"))
    status = tailscale.object("status", "--json")
    require_version("tailscaled", str(status.get("Version", "")))
    wanted = wanted_entries(node_name(status, expected), port)
    require_right(tailscale)
    config = tailscale.object("serve", "status", "--json")
    require_private(config, wanted)
    return wanted, config


def check(tailscale: Tailscale, expected: str | None, port: int) -> Json:
    wanted, config = verified(tailscale, expected, port)
    for entry in wanted:
        # Only `apply` knows which port we had before, so any plain loopback target may still be ours here.
        target = str(handler(config, entry).get("Proxy", ""))
        require_free(config, entry, [target] if re.fullmatch(r"http://127\.0\.0\.1:\d+", target) else [])
    return {"url": f"https://{wanted[0].host}", "missing": [e.name for e in wanted if not in_place(config, e)]}


def apply(tailscale: Tailscale, expected: str | None, port: int) -> Json:
    wanted, config = verified(tailscale, expected, port)
    new = [entry for entry in wanted if not handler(config, entry)]
    steps = plan(config, wanted, previous_entries())
    try:
        for step in steps:
            tailscale.change(step)
        after = tailscale.object("serve", "status", "--json")
        require_private(after, wanted)
        lacking = [entry.name for entry in wanted if not in_place(after, entry)]
        if lacking:
            raise RefusedError(
                f"`tailscale serve` reported success, but {' and '.join(lacking)} is not configured. "
                f"Is HTTPS enabled for this tailnet? {ADMIN_PAGE}"
            )
    except RefusedError:
        # Half an exposure is nobody's wish, and a failed create leaves no resource that a destroy could remove.
        for entry in new:
            tailscale.run(take_off(entry))
        raise
    url = f"https://{wanted[0].host}"
    note = (
        f"Coder's address is {url}: sign in there again, a session belongs to one address. "
        "Running workspaces reach Coder by its internal address and go on; none needs a restart."
    )
    return {"url": url, "entries": [asdict(entry) for entry in wanted], "note": note}


def remove(tailscale: Tailscale) -> Json:
    previous = previous_entries()
    try:
        status = tailscale.object("status", "--json")
        state = status.get("BackendState")
        if state not in ("Running", "Stopped"):
            raise UnreachableError(f"This machine is not on its tailnet (state {state}).")
        config = tailscale.object("serve", "status", "--json")
    except UnreachableError as why:
        print(f"Nothing to take off the tailnet: {why}", file=sys.stderr)
        return {"removed": []}
    # The command line knows this node's own name only, and changes nothing at all after `tailscale down`.
    host = str((status.get("Self") or {}).get("DNSName", "")).rstrip(".") if state == "Running" else ""
    for step in removals(config, previous, host):
        tailscale.change(step)
    after = tailscale.object("serve", "status", "--json")
    left = [entry.name for entry in previous if in_place(after, entry)]
    if left:
        raise RefusedError(f"`tailscale serve` reported success, but {' and '.join(left)} is still there.")
    ours = [entry.name for entry in previous if in_place(config, entry)]
    for entry in previous:
        if entry.name not in ours:
            print(f"{entry.name} was gone already, or is not ours any more: left as it is.", file=sys.stderr)
    return {"removed": ours}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check", "apply", "remove"])
    parser.add_argument("--port", type=int, help="Coder's port on 127.0.0.1; needed by check and apply")
    parser.add_argument("--name", help="the machine name that the node must have (default: any)")
    parser.add_argument("--socket", help="tailscaled's socket (default: the system's)")
    parser.add_argument("--timeout-s", type=float, default=20.0, help="for each call of tailscale (default: 20)")
    parser.add_argument(
        "--report", action="store_true", help='exit 0 also when refused, and print {"problem": …}: for a preview'
    )
    options = parser.parse_args(argv)
    if options.action != "remove" and options.port is None:
        parser.error("--port is needed")
    tailscale = Tailscale(socket=options.socket, timeout_s=options.timeout_s)
    try:
        if options.action == "remove":
            result = remove(tailscale)
        elif options.action == "apply":
            result = apply(tailscale, options.name, options.port)
        else:
            result = check(tailscale, options.name, options.port)
    except RefusedError as why:
        if not options.report:
            print(f"tailnet: {why}", file=sys.stderr)
            return 1
        result = {"problem": str(why)}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
