"""Let the tailnet, and nobody else, reach Coder: two `tailscale serve` entries on this machine.

    https=443    -> http://127.0.0.1:<port>   the certificate makes the browser's secure context that webviews need
    http=<port>  -> http://127.0.0.1:<port>   the address people had before there was a certificate

With a domain of one's own Coder has its certificate and ends TLS itself, so the first of them passes on what comes:

    tcp=443      -> tcp://127.0.0.1:<port + 1>

`check` changes nothing: it verifies what must be true first and prints the address. `apply` makes the entries so and
reads them back; what an earlier `apply` configured and is no longer wanted goes. `remove` takes off what `apply`
configured. Both find the earlier configuration in PULUMI_COMMAND_STDOUT, which pulumi-command sets to the output of the
last run. An entry that leads anywhere else than where we pointed it is somebody else's and is never touched, so
`tailscale serve reset` is never used.

Reads PORT, Coder's on 127.0.0.1; MACHINE, the name that this node must have (empty: any); DOMAIN (empty: none); and
TAILSCALE_SOCKET (empty: the system's) from the environment. Prints one JSON object; what is for people is on standard
error.

Every call of `tailscale` ends within `--timeout-s` and finds its standard input closed: on a tailnet without HTTPS
`tailscale serve` waits forever for somebody to enable it, or exits 0 having done nothing (cmd/tailscale/cli,
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stack.jobs import names, program
from stack.jobs.engine import JobError

ADMIN_PAGE = "https://login.tailscale.com/admin/dns"
HTTPS_PORT = 443
TCP = "tcp"
"""The scheme of a port that is passed on as it is."""
PRIVILEGED_PORTS = 1024
MIN_VERSION = (1, 60)
"""Since 1.60 `serve` has only the syntax used here; an older one may accept it and do something else."""

Json = dict[str, Any]


class UnreachableError(JobError):
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
        if self.scheme == TCP:
            return {"TCPForward": self.target.removeprefix("tcp://")}
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

    @property
    def program(self) -> list[str]:
        return ["tailscale", f"--socket={self.socket}"] if self.socket else ["tailscale"]

    def run(self, step: Step) -> subprocess.CompletedProcess[str]:
        command = [*self.program, *step.args]
        feed: Json = {"stdin": subprocess.DEVNULL} if step.stdin is None else {"input": step.stdin}
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=self.timeout_s, check=False, **feed)
        except FileNotFoundError:
            raise UnreachableError(
                "there is no `tailscale` on PATH: install it (https://tailscale.com/download) and log in, "
                "or run `pulumi config set tailnet false`"
            ) from None
        except subprocess.TimeoutExpired as expired:
            # Text mode or not, what a killed child had written comes as bytes.
            parts = [part for part in (expired.stdout, expired.stderr) if isinstance(part, bytes)]
            said = quoted(b"".join(parts).decode(errors="replace"))
            raise JobError(f"`{shlex.join(command)}` did not end within {self.timeout_s:g} s{said}") from None

    def text(self, *args: str) -> str:
        """Standard output of a call that only reads."""
        done = self.run(Step(list(args)))
        if done.returncode == 0:
            return done.stdout
        if "failed to connect" in done.stderr:
            where = f" at {self.socket}" if self.socket else ""
            raise UnreachableError(f"tailscaled does not answer{where}: run `sudo systemctl start tailscaled`")
        raise JobError(f"`{shlex.join([*self.program, *args])}` failed{quoted(done.stderr)}")

    def object(self, *args: str) -> Json:
        text = self.text(*args)
        try:
            parsed = json.loads(text)
        except ValueError:
            raise JobError(f"`{shlex.join([*self.program, *args])}` did not print JSON{quoted(text)}") from None
        return parsed or {}  # `serve status --json` says null where nothing was ever served

    def change(self, step: Step) -> None:
        done = self.run(step)
        if "denied" in done.stderr.lower():
            raise JobError(no_right(self.program))
        if done.returncode != 0:
            command = shlex.join([*self.program, *step.args])
            raise JobError(f"`{command}` failed{quoted(done.stderr or done.stdout)}")


def quoted(text: str) -> str:
    return f": {' '.join(text.split())}" if text.strip() else ", saying nothing"


def no_right(command: Sequence[str]) -> str:
    user = pwd.getpwuid(os.geteuid()).pw_name
    return (
        f"{user} may not change what this machine serves on the tailnet: "
        f"run `sudo {shlex.join([*command, 'set', f'--operator={user}'])}`"
    )


def version(text: str) -> tuple[int, ...]:
    """(1, 98, 10) for "1.98.10-t0123abc"; () when there is none."""
    found = re.match(r"\d+(\.\d+)*", text.strip())
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def require_version(what: str, text: str) -> None:
    if version(text) < MIN_VERSION:
        found, least = text.strip() or "of unknown version", ".".join(map(str, MIN_VERSION))
        raise JobError(f"{what} is {found}, {least} or newer is needed: run `sudo tailscale update`")


def node_name(status: Json, expected: str | None, *, certificate: bool = True) -> str:
    """This node's name on the tailnet, once it is on it and may have a certificate, where it needs one.

    `status` is `tailscale status --json`. A node has the capability "https" when its tailnet has HTTPS enabled.

    Raises:
        JobError: the node is not connected, is not called `expected`, or cannot have a certificate.
    """
    state = status.get("BackendState", "")
    if state == "NeedsLogin":
        raise UnreachableError("this machine is logged out of its tailnet: run `sudo tailscale up`")
    if state == "Stopped":
        raise UnreachableError("this machine is disconnected from its tailnet: run `sudo tailscale up`")
    if state == "NeedsMachineAuth":
        raise UnreachableError("this machine waits to be let in: https://login.tailscale.com/admin/machines")
    if state != "Running":
        raise UnreachableError(f"tailscaled is not connected yet (state {state or 'unknown'}): try again in a moment")
    node = status.get("Self") or {}
    host = str(node.get("DNSName", "")).rstrip(".")
    certificates = status.get("CertDomains") or []
    has_none = "https" not in (node.get("CapMap") or {}) or host not in certificates
    if not host or (certificate and has_none):
        raise JobError(f"this tailnet has no HTTPS certificates: enable MagicDNS and HTTPS at {ADMIN_PAGE}")
    if expected and expected not in (host, host.split(".")[0]):
        raise JobError(
            f"this machine is {host} on the tailnet, not {expected}: run `pulumi config set tailnetName "
            f"{host.split('.')[0]}`, or rename the machine: https://login.tailscale.com/admin/machines"
        )
    return host


def wanted_entries(host: str, port: int, domain: str = "") -> list[Entry]:
    target = f"http://127.0.0.1:{port}"
    passed_on = Entry(TCP, HTTPS_PORT, host, f"tcp://127.0.0.1:{names.tls_port(port)}")
    return [passed_on if domain else Entry("https", HTTPS_PORT, host, target), Entry("http", port, host, target)]


def require_names(status: Json, domain: str, timeout_s: float) -> None:
    """Refuse a domain whose names do not lead to this node, as far as this machine can tell.

    Raises:
        JobError: with the records that are missing.
    """
    own = [str(each) for each in (status.get("Self") or {}).get("TailscaleIPs") or []]
    for name in (domain, f"any.{domain}"):
        found = addresses(name, timeout_s)
        if not found or not found <= set(own):
            leads = f"leads to {', '.join(sorted(found))}" if found else "leads nowhere"
            raise JobError(
                f"{name} {leads}, not to this machine's {own[0] if own else 'address on the tailnet'}: add the DNS "
                f"records of {domain} and *.{domain}, see docs/domain.md"
            )


def addresses(name: str, timeout_s: float) -> set[str]:
    """What this machine resolves the name to."""
    try:
        # A resolver that does not answer holds getaddrinfo for longer than anybody waits.
        done = subprocess.run(
            ["getent", "ahosts", name], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=timeout_s,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return set()
    return {line.split()[0] for line in done.stdout.splitlines() if line.strip()}


def handler(config: Json, entry: Entry) -> Json:
    """What the entry's host and port lead to at "/", {} when nothing does."""
    found = (config.get("Web") or {}).get(entry.web) or {}
    return (found.get("Handlers") or {}).get("/") or {}


def port_mode(config: Json, entry: Entry) -> Json:
    return (config.get("TCP") or {}).get(str(entry.port)) or {}


def in_place(config: Json, entry: Entry) -> bool:
    """Whether `config` (`tailscale serve status --json`) has this entry, exactly."""
    leads = entry.scheme == TCP or handler(config, entry).get("Proxy") == entry.target
    return leads and port_mode(config, entry) == entry.mode


def configurations(config: Json) -> Iterator[Json]:
    """The lasting configuration, then those that live as long as a `tailscale serve` in some terminal."""
    yield config
    yield from (config.get("Foreground") or {}).values()


def require_private(config: Json, entries: Sequence[Entry]) -> None:
    for part in configurations(config):
        for web, public in (part.get("AllowFunnel") or {}).items():
            for entry in entries:
                if public and web.rpartition(":")[2] == str(entry.port):
                    raise JobError(
                        f"port {entry.port} is public, a Tailscale Funnel is on for {web}, and Coder must never be on "
                        f"the internet: run `tailscale funnel --https={entry.port} off`"
                    )


def require_free(config: Json, entry: Entry, ours: Sequence[Entry]) -> None:
    """Refuse when the port of `entry` is held by somebody who is not us.

    Other paths on the same port are somebody's too, but stand beside ours: they stay and do not hinder, unless all that
    comes to the port is to be passed on.

    Args:
        ours: entries that may be there and still be ours to change.
    """
    held = f"port {entry.port} of the tailnet, wanted for {entry.name}, is held by somebody else and left alone: "
    modes = [each.mode for each in (entry, *ours) if each.port == entry.port]
    targets = [each.target for each in (entry, *ours) if each.web == entry.web]
    for part in configurations(config):
        mode = port_mode(part, entry)
        if part is not config and mode:
            raise JobError(f"{held}a `tailscale serve` or `tailscale funnel` that runs in a terminal, end that one")
        if mode and mode not in modes:
            raise JobError(f"{held}{json.dumps(mode)}; see `tailscale serve status --json`")
        for web, path, found in handlers(part, entry.port):
            at_root = path == "/" and web == entry.web
            if (at_root and found.get("Proxy") not in targets) or (entry.scheme == TCP and not at_root):
                scheme = "http" if mode.get("HTTP") else "https"
                off = ["tailscale", "serve", f"--{scheme}={entry.port}", f"--set-path={path}", "off"]
                raise JobError(
                    f"{held}{scheme}://{web}{path} leads to {json.dumps(found)}; if nobody needs it: "
                    f"run `{shlex.join(off)}`"
                )


def handlers(config: Json, port: int) -> Iterator[tuple[str, str, Json]]:
    """What the port serves: the host with the port, the path, and what that leads to."""
    for web, site in (config.get("Web") or {}).items():
        if web.rpartition(":")[2] == str(port):
            for path, found in (site.get("Handlers") or {}).items():
                yield web, path, found


def add(entry: Entry) -> Step:
    return Step(["serve", "--bg", f"--{entry.name}", entry.target])


def take_off(entry: Entry) -> Step:
    """`--set-path=/`: without it `off` would take every path of the port, ours or not."""
    if entry.scheme == TCP:
        return Step(["serve", f"--{entry.name}", "off"])
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
    # What is passed on is so under every name.
    renamed = [entry for entry in still if entry.host != host and entry.scheme != TCP]
    steps = [take_off_raw(config, renamed)] if renamed else []
    return steps + [take_off(entry) for entry in still if entry not in renamed]


def plan(config: Json, wanted: Sequence[Entry], previous: Sequence[Entry]) -> list[Step]:
    """Steps from what is served now to `wanted`; none when everything is in place.

    Args:
        previous: what we configured the last time: ours to point elsewhere, and to take off.

    Raises:
        JobError: before anything was changed, if a port is public or somebody else's.
    """
    require_private(config, wanted)
    for entry in wanted:
        require_free(config, entry, previous)
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
        raise JobError(no_right(tailscale.program))


def verified(tailscale: Tailscale, expected: str | None, port: int, domain: str = "") -> tuple[list[Entry], Json]:
    """The entries that this machine should have, and its serve configuration, once every precondition holds."""
    if port == HTTPS_PORT:
        raise JobError(f"port {HTTPS_PORT} is the one of https on the tailnet: run `pulumi config set port 7080`")
    require_version("the `tailscale` on PATH", tailscale.text("version"))
    status = tailscale.object("status", "--json")
    require_version("tailscaled", str(status.get("Version", "")))
    wanted = wanted_entries(node_name(status, expected, certificate=not domain), port, domain)
    if domain:
        require_names(status, domain, tailscale.timeout_s)
    require_right(tailscale)
    config = tailscale.object("serve", "status", "--json")
    require_private(config, wanted)
    return wanted, config


def maybe_ours(config: Json, entry: Entry) -> list[Entry]:
    """What is on the port of `entry` that an earlier `apply` may have put there: only `apply` knows what it did."""
    found: list[Entry] = []
    target = str(handler(config, entry).get("Proxy", ""))
    if re.fullmatch(r"http://127\.0\.0\.1:\d+", target):
        found.append(Entry("http" if port_mode(config, entry).get("HTTP") else "https", entry.port, entry.host, target))
    passed_on = re.fullmatch(r"127\.0\.0\.1:(\d+)", str(port_mode(config, entry).get("TCPForward", "")))
    if entry.port == HTTPS_PORT and passed_on and int(passed_on[1]) > PRIVILEGED_PORTS:
        found.append(Entry(TCP, entry.port, entry.host, f"tcp://{passed_on[0]}"))
    return found


def check(tailscale: Tailscale, expected: str | None, port: int, domain: str = "") -> Json:
    wanted, config = verified(tailscale, expected, port, domain)
    for entry in wanted:
        require_free(config, entry, maybe_ours(config, entry))
    lacking = [each.name for each in wanted if not in_place(config, each)]
    return {"url": f"https://{domain or wanted[0].host}", "missing": lacking}


def apply(tailscale: Tailscale, expected: str | None, port: int, domain: str = "") -> Json:
    wanted, config = verified(tailscale, expected, port, domain)
    new = [entry for entry in wanted if not port_mode(config, entry)]
    steps = plan(config, wanted, previous_entries())
    try:
        for step in steps:
            tailscale.change(step)
        after = tailscale.object("serve", "status", "--json")
        require_private(after, wanted)
        lacking = [entry.name for entry in wanted if not in_place(after, entry)]
        if lacking:
            raise JobError(
                f"`tailscale serve` reported success, but {' and '.join(lacking)} is not configured: "
                f"see whether HTTPS is enabled for this tailnet, {ADMIN_PAGE}"
            )
    except JobError:
        # Half an exposure is nobody's wish, and a failed create leaves no resource that a destroy could remove.
        for entry in new:
            tailscale.run(take_off(entry))
        raise
    url = f"https://{domain or wanted[0].host}"
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
            raise UnreachableError(f"this machine is not on its tailnet (state {state})")
        config = tailscale.object("serve", "status", "--json")
    except UnreachableError as why:
        print(f"nothing to take off the tailnet: {why}", file=sys.stderr)
        return {"removed": []}
    # The command line knows this node's own name only, and changes nothing at all after `tailscale down`.
    host = str((status.get("Self") or {}).get("DNSName", "")).rstrip(".") if state == "Running" else ""
    for step in removals(config, previous, host):
        tailscale.change(step)
    after = tailscale.object("serve", "status", "--json")
    left = [entry.name for entry in previous if in_place(after, entry)]
    if left:
        raise JobError(f"`tailscale serve` reported success, but {' and '.join(left)} is still there")
    ours = [entry.name for entry in previous if in_place(config, entry)]
    for entry in previous:
        if entry.name not in ours:
            print(f"{entry.name} was gone already, or is not ours any more: left as it is", file=sys.stderr)
    return {"removed": ours}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python3 -m stack.jobs.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", nargs="?", choices=["check", "apply", "remove"], default="apply")
    parser.add_argument("--timeout-s", type=float, default=20.0, help="for each call of tailscale (default: 20)")
    parser.add_argument("--report", action="store_true", help='a refusal is no failure but an answer: {"problem": …}')
    options = parser.parse_args()
    tailscale = Tailscale(socket=program.variable("TAILSCALE_SOCKET") or None, timeout_s=options.timeout_s)
    try:
        if options.action == "remove":
            result = remove(tailscale)
        else:
            action = apply if options.action == "apply" else check
            machine, port = program.variable("MACHINE") or None, int(program.variable("PORT"))
            result = action(tailscale, machine, port, program.variable("DOMAIN"))
    except JobError as why:
        if not options.report:
            raise
        result = {"problem": str(why)}
    print(json.dumps(result))


if __name__ == "__main__":
    program.run(main)
