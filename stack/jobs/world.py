"""Look at what the engine runs for the pilot: whose it is, and what differs from what the program declares.

Run by an invoke on every operation, before anything is declared: Pulumi compares the program with its state, and not
with the world.

    python3 -m stack.jobs.world look      changes nothing
    python3 -m stack.jobs.world ensure    notes what is to be made anew, and removes what stands in its place

Prints one JSON object:
    {"generations": {"coder": 1}, "differences": ["coder-server is gone"], "paused": ["coder-keeper"], "stopped": [],
     "coder_started_at": "2026-01-01T12:00:00Z", "joined": ["coder.admin.demo"], "to_do": bool,
     "problem": str or null}
A part's generation is one more than the last where the part differs, and so has it replaced. `coder_started_at` is ""
unless Coder runs, and `joined` are the containers on the workspaces' network: alive.py goes on with both, so that an
`up` asks the engine once. `to_do` says whether `ensure` has anything to note or to remove. A problem is no failure, see
alive.py.

What can change in a container while it keeps its id is compared; everything else cannot, and one with another id than
the one that `up` made is somebody else's. Only what the program declares counts.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.jobs import backups, engine, names, pilot_file, port, program, workspace_secrets

MEBIBYTE = 1 << 20
NANO = 10**9
STOP_GRACE_S = 60
WORDS = {"TAKE_OVER": "CODER_PILOT_TAKE_OVER", "NEW_DATABASE": "CODER_PILOT_NEW_DATABASE"}
"""The owner's words for what is refused without them, and the variables in which `make up` hands them over."""

_FIELDS = (
    "{{.ID}}", "{{.Names}}", f'{{{{.Label "{names.STACK_LABEL}"}}}}',
    f'{{{{.Label "{names.WORKSPACE_LABEL}"}}}}', "{{.State}}", "{{.Networks}}",
)  # fmt: skip

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One container that carries a label of ours, as the engine lists it."""

    identifier: str
    name: str
    stack: str
    workspace: str
    state: str
    networks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What the program declares, as far as it can differ; the keys are logical names."""

    name: str
    owner: str
    data_directory: str
    docker_host: str
    last_data_directory: str
    """Where the checkout had it last, "" for nowhere."""
    containers: Mapping[str, Record]
    """Each with "name", "image", "memory_mb", "cpus", "restart", "networks", from each network to our aliases,
    "stays_stopped" where nothing later in `up` starts it, and Coder with the "ports" that it publishes."""
    networks: Mapping[str, Record]
    """Each with "name" and "internal"."""


def listed() -> list[Listed]:
    """All containers of all pilots on the engine.

    Raises:
        engine.JobError: the engine does not answer.
    """
    shown = engine.docker(
        "ps", "--all", "--no-trunc", "--filter", f"label={names.STACK_LABEL}", "--format", "\t".join(_FIELDS)
    )
    rows = []
    for line in shown.splitlines():
        *texts, networks = line.split("\t")
        rows.append(
            Listed(
                **dict(zip(("identifier", "name", "stack", "workspace", "state"), texts, strict=True)),
                networks=tuple(networks.split(",")),
            )
        )
    return rows


def other_owner(declared: Declared, live: Mapping[str, Record]) -> str | None:
    """The mark of another checkout or stack whose pilot this is, None where it is ours or nobody's."""
    parts = [live[key] for key in declared.containers if key in live]
    marks = [_labels(each).get(names.OWNER_LABEL) for each in parts if _stack(each) == declared.name]
    marks.append(pilot_file.read(declared.data_directory).get("owner"))
    return next((mark for mark in marks if mark and mark != declared.owner), None)


def _labels(container: Record) -> Mapping[str, str]:
    return container["Config"]["Labels"] or {}


def _stack(container: Record) -> str | None:
    return _labels(container).get(names.STACK_LABEL)


def refusal_of_owner(other: str) -> str:
    """What to say where the pilot is another checkout's."""
    folder, _, stack = other.rpartition(":")
    gone = "" if Path(folder).is_dir() else ", which is gone"
    return (
        f"this pilot belongs to the stack {stack} in {folder}{gone}; nothing was touched. Work there, choose another "
        "`name` and `dataDir` here, or take it over: "
        f"`make up TAKE_OVER=yes`"
    )


def _other_name(declared: Declared, live: Mapping[str, Record]) -> str | None:
    earlier = [each for key, each in live.items() if key in _earlier(declared)]
    ours = {_stack(each) for each in earlier if _labels(each).get(names.OWNER_LABEL) == declared.owner}
    found = next(iter(sorted(filter(None, ours - {declared.name}))), None)
    if found is None:
        return None
    return (
        f"name is {declared.name}, but the pilot of this stack lives as {found}, and a living one cannot be renamed; "
        f"nothing was touched. Put it back, `pulumi config set name {found}`; or retire it first: `make down`, then "
        "`make up`"
    )


def _other_place(declared: Declared, live: Mapping[str, Record], record: Record) -> str | None:
    """Where the database or the engine are not those of the living pilot."""
    now = record.get("docker_host")
    if record.get("containers") and now and now != declared.docker_host:
        return (
            f"dockerHost is {declared.docker_host}, but the pilot lives on {now}; nothing was touched. Put it back, "
            f"`pulumi config set dockerHost {now}`; or retire it there first, with `make down`, then set the new one"
        )
    wanted = f"{declared.data_directory}/postgres"
    for mount in live.get("postgres", {}).get("Mounts", []):
        elsewhere = Path(mount["Source"]).resolve() != Path(wanted).resolve()
        if mount["Destination"] == "/var/lib/postgresql/data" and elsewhere:
            old = str(Path(mount["Source"]).parent)
            return (
                f"dataDir is {declared.data_directory}, but the database of the living pilot is in {old}; nothing was "
                f"touched. Move it: `make down`, `sudo mv -T {old} {declared.data_directory}`, `make up`; or put it "
                f"back, `pulumi config set dataDir {old}`"
            )
    return None


def _second_server(declared: Declared, live: Mapping[str, Record]) -> str | None:
    """Whether somebody else's container has the database open: with a second server on it, it would be spoiled.

    Each is alone in its container, so that Postgres's own lock tells neither of the other.
    """
    if live.get("postgres", {"State": {}})["State"].get("Running", "postgres" in live):
        return None
    folder = Path(f"{declared.data_directory}/postgres")
    chosen = [f"--filter=volume={each}" for each in dict.fromkeys((folder, folder.resolve()))]
    found = engine.docker("ps", *chosen, "--format", "{{.Names}}").split()
    if not found:
        return None
    return (
        f"{', '.join(found)} runs on the database in {folder}, and a second server would spoil it; nothing was "
        "touched. Stop the pilot that it is of, `docker compose down` without --volumes (docs/adoption.md), then "
        "`make up`"
    )


def _taken_port(declared: Declared, live: Mapping[str, Record]) -> str | None:
    """Whether Coder's container would be removed for one that cannot start."""
    coder = live.get("coder", {"State": {}})
    bindings = (coder["HostConfig"]["PortBindings"] or {}) if coder["State"].get("Running") else {}
    own = {each["HostPort"] for published in bindings.values() for each in published or []}
    taken = [each for each in declared.containers["coder"]["ports"] if str(each) not in own and port.is_taken(each)]
    if not taken:
        return None
    return f"{port.taken(taken[0], declared.docker_host)}; nothing was touched. {port.FIX.capitalize()}"


def _has_database(data_directory: str) -> bool:
    try:
        return any((Path(data_directory) / "postgres").iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        # The server's own, and closed to us: so there is one.
        return True


def has_account(data_directory: str) -> bool:
    """Whether an `up` made the first user of the database that is here: an empty one gives that to whoever comes."""
    return pilot_file.admin(data_directory) is not None and _has_database(data_directory)


def _cut_short(declared: Declared) -> str | None:
    """Where the data were moved away for another Postgres, and the new one has not got them yet."""
    begun = pilot_file.upgrade(declared.data_directory)
    if begun is None:
        return None
    return (
        f"an upgrade of Postgres was cut short, and the database is still without what is in {begun.kept} and in "
        f"{backups.FOLDER}/{begun.dump} of {declared.data_directory}; nothing was touched. `make upgrade-postgres` "
        "goes on with it; with the old postgresImage set again, it goes back"
    )


def _lost_database(declared: Declared) -> str | None:
    """Where an empty database would take the place of one that had users."""
    if _has_database(declared.data_directory):
        return None
    label = f"label={names.STACK_LABEL}={declared.name}"
    homes = engine.docker("volume", "ls", "--filter", label, "--format", "{{.Name}}").splitlines()
    last, lines = declared.last_data_directory, []
    if last and last != declared.data_directory and _has_database(last):
        lines.append(
            f"the database of this pilot is in {last}: put it back, `pulumi config set dataDir {last}`, or move it, "
            f"`sudo mv -T {last} {declared.data_directory}`"
        )
    if homes:
        lines.append(f"the homes of its workspaces are on the engine: {', '.join(homes)}")
    if not lines:
        return None
    return (
        f"there is no database in {declared.data_directory}, but {'; and '.join(lines)}; nothing was touched. With a "
        "dump, `make restore FILE=<dump>`; to begin with an empty database all the same, `make up NEW_DATABASE=yes`"
    )


def _changes(wanted: Record, live: Record, networks: Mapping[str, str]) -> Iterator[str]:
    """What of a container was changed while it kept its id; `networks` are the ids of those that `up` made."""
    host, joined = live["HostConfig"], live["NetworkSettings"]["Networks"]
    memory = wanted["memory_mb"] * MEBIBYTE
    for what, is_, should in (
        ("memory limit", (host["Memory"], host["MemorySwap"]), (memory, memory)),
        ("CPU limit", host["NanoCpus"], wanted["cpus"] * NANO),
        ("restart policy", host["RestartPolicy"]["Name"], wanted["restart"]),
    ):
        if is_ != should:
            yield f"has another {what}"
    for network, aliases in wanted["networks"].items():
        if network not in joined:
            yield f"is cut off from the network {network}"
        elif joined[network]["NetworkID"] not in ("", networks.get(network)):
            yield f"is on a network {network} that was made by somebody else"
        elif missing := set(aliases) - set(joined[network]["Aliases"] or []):
            yield f"is not called {', '.join(sorted(missing))} on the network {network}"
    if more := joined.keys() - wanted["networks"].keys():
        yield f"is on the network {', '.join(sorted(more))} as well"


def _earlier(declared: Declared) -> set[str]:
    """Containers that an `up` made of this data, or of this stack elsewhere, and that are called otherwise now."""
    places = {declared.data_directory, declared.last_data_directory or declared.data_directory}
    recorded = {name for place in places for name in pilot_file.containers(place)}
    return recorded - {str(each["name"]) for each in declared.containers.values()}


def _is_foreign(live: Record | None, recorded: str | None) -> bool:
    return bool(live and recorded and live["Id"] != recorded)


def _is_gone(key: str, declared: Declared, live: Mapping[str, Record], record: Record) -> bool:
    recorded = (record.get("containers") or {}).get(declared.containers[key]["name"])
    return key not in live or _is_foreign(live[key], recorded)


def compare(declared: Declared, live: Mapping[str, Record], record: Record) -> dict[str, list[str]]:
    """What differs, by the logical name of the part; nothing for a pilot that was never up."""
    recorded = record.get("containers") or {}
    if not recorded:
        return {}
    found: dict[str, list[str]] = {}
    networks = record.get("networks") or {}
    for key, wanted in declared.containers.items():
        name, container = wanted["name"], live.get(key)
        if container is None:
            found[key] = [f"{name} is gone"] if name in recorded else []
            if f"{key}-image" not in live and found[key]:
                found[f"{key}-image"] = [f"its image {wanted['image']} is gone"]
        elif _is_foreign(container, recorded.get(name)):
            found[key] = [f"{name} was made by somebody else"]
        elif wanted["stays_stopped"] and not container["State"]["Running"]:
            found[key] = [f"{name} is stopped"]
        else:
            found[key] = [f"{name} {each}" for each in _changes(wanted, container, networks)]
    for key, wanted in declared.networks.items():
        name, network = wanted["name"], live.get(key)
        if network is None:
            found[key] = [f"the network {name} is gone"]
        elif network["Id"] != networks.get(name):
            found[key] = [f"the network {name} was made by somebody else"]
    return {key: texts for key, texts in found.items() if texts}


def live(declared: Declared) -> dict[str, Record]:
    """What the engine has of the declared parts and their images, by logical name, and of those that are called
    otherwise now, by their own; in one call.

    Raises:
        engine.JobError: the engine does not answer.
    """
    wanted = {("Container", each["name"]): key for key, each in declared.containers.items()}
    wanted |= {("Container", name): name for name in _earlier(declared)}
    wanted |= {("Network", each["name"]): key for key, each in declared.networks.items()}
    images = {each["image"]: f"{key}-image" for key, each in declared.containers.items()}
    found: dict[str, Record] = {}
    for each in engine.inspect(*(name for _, name in wanted), *images):
        if "RootFS" in each:
            for name in [*each["RepoTags"], *each["RepoDigests"]]:
                if name in images:
                    found[images[name]] = each
        else:
            key = wanted.get(("Container" if "HostConfig" in each else "Network", each["Name"].removeprefix("/")))
            if key:
                found[key] = each
    return found


def _make_way(declared: Declared, live: Mapping[str, Record], record: Record, different: Mapping[str, object]) -> None:
    """Wake what was paused, and remove what has the name of a part and is not ours to keep.

    Raises:
        engine.JobError: the engine refused.
    """
    for key, wanted in declared.containers.items():
        container = live.get(key)
        if container is None:
            continue
        if container["State"]["Paused"]:
            engine.docker("unpause", wanted["name"])
        if _is_foreign(container, (record.get("containers") or {}).get(wanted["name"])):
            engine.remove_container(wanted["name"], STOP_GRACE_S)
    for key in declared.networks.keys() & different.keys() & live.keys():
        remove_network(live[key])


def remove_network(network: Record) -> None:
    """Remove a network, as the engine tells it; what is on it runs on without it.

    Raises:
        engine.JobError: the engine refused.
    """
    for endpoint in network["Containers"]:
        engine.docker("network", "disconnect", "--force", network["Id"], endpoint)
    engine.docker("network", "rm", network["Id"])


def _record_unknown(declared: Declared, live: Mapping[str, Record]) -> None:
    """Note containers that carry our mark and that nobody noted: pilot.json was lost, or a `pulumi` was killed."""
    for key in declared.containers.keys() & live.keys():
        if _labels(live[key]).get(names.OWNER_LABEL) == declared.owner:
            pilot_file.record_container(declared.data_directory, live[key], declared.owner, declared.docker_host)


def paused(declared: Declared, live: Mapping[str, Record]) -> list[str]:
    """Containers that were paused, by their names; `ensure` wakes them."""
    return [each["name"] for key, each in declared.containers.items() if key in live and live[key]["State"]["Paused"]]


def stopped(declared: Declared, live: Mapping[str, Record], different: Mapping[str, Sequence[str]]) -> list[str]:
    """Containers that were stopped, by their names, and are not made anew: stack/jobs/alive.py starts them."""
    return [
        each["name"]
        for key, each in declared.containers.items()
        if key in live and not different.get(key) and not live[key]["State"]["Running"]
    ]


def started_at(live: Mapping[str, Record]) -> str:
    """When Coder was started, "" unless it runs."""
    state = live["coder"]["State"] if "coder" in live else {}
    return str(state["StartedAt"]) if state.get("Running") else ""


def _strangers(declared: Declared, live: Mapping[str, Record], record: Record) -> str | None:
    """Whether something has the name of a part and nothing says that it is this pilot's."""
    for key, wanted in declared.containers.items():
        if key in live and _stack(live[key]) != declared.name:
            return (
                f"a container that is not of this pilot is called {wanted['name']}; nothing was touched. Rename it, "
                f"`docker rename {wanted['name']} <other>`, or remove it, or choose another `name`"
            )
    for key, wanted in declared.networks.items():
        ours = key in live and live[key]["Labels"].get(names.STACK_LABEL) == declared.name
        # One that takes the place of ours may go: who made it wanted to repair something.
        if key in live and not ours and not record.get("containers"):
            return (
                f"a network that is not of this pilot is called {wanted['name']}; nothing was touched. Remove it, "
                f"`docker network rm {wanted['name']}`, or choose another `name`"
            )
    return None


def _refusal(declared: Declared, live: Mapping[str, Record], record: Record) -> str | None:
    taken_over, begun = (os.environ.get(variable) == "yes" for variable in WORDS.values())
    other = None if taken_over else other_owner(declared, live)
    return (
        (refusal_of_owner(other) if other else None)
        or _other_name(declared, live)
        or _strangers(declared, live, record)
        or _other_place(declared, live, record)
        or _second_server(declared, live)
        or (None if begun else _cut_short(declared) or _lost_database(declared))
        or _taken_port(declared, live)
    )


def refusal(declared: Declared) -> str | None:
    """Why nothing may be touched, and what to type; None where nothing stands against it.

    Raises:
        engine.JobError: the engine does not answer.
    """
    return _refusal(declared, live(declared), pilot_file.read(declared.data_directory))


def main() -> None:
    ensure = sys.argv[1:] == ["ensure"]
    declared = Declared(**json.loads(program.variable("DECLARED")))
    record = pilot_file.read(declared.data_directory)
    answer: dict[str, Any] = {
        "generations": dict(record.get("generations") or {}), "differences": [], "paused": [], "stopped": [],
        "coder_started_at": "", "joined": [], "to_do": False, "problem": None,
    }  # fmt: skip
    try:
        _compare(declared, record, answer, ensure=ensure)
    except engine.JobError as error:
        # An engine that does not answer is the provider's to report, in a preview it may be elsewhere.
        answer["problem"] = str(error) if ensure else None
    print(json.dumps(answer))


def _compare(declared: Declared, record: Record, answer: dict[str, Any], *, ensure: bool) -> None:
    found = live(declared)
    answer["problem"] = _refusal(declared, found, record)
    if answer["problem"]:
        return
    unknown, of_another = not record.get("containers"), record.get("owner", declared.owner) != declared.owner
    if ensure and unknown:
        _record_unknown(declared, found)
    if ensure and of_another:
        # The last owner's token has the name that ours has in our state, and not its value.
        last = pilot_file.token_generation(declared.data_directory)
        pilot_file.update(declared.data_directory, token_generation=last + 1, owner=declared.owner)
    different = compare(declared, found, record)
    # A pilot that is retired has none.
    if record.get("containers") and workspace_secrets.is_lost(declared.data_directory):
        different["workspace-secrets"] = ["the file with the secrets of workspaces is gone"]
    answer["differences"] = [text for texts in different.values() for text in texts]
    answer["paused"], answer["stopped"] = paused(declared, found), stopped(declared, found, different)
    answer["to_do"] = bool(unknown or of_another or different or answer["paused"])
    answer["coder_started_at"] = started_at(found)
    if "workspaces" not in different and "workspaces" in found:
        answer["joined"] = [each["Name"] for each in found["workspaces"]["Containers"].values()]
    # Whoever is made anew gets what its image's tag stands for now: the state may name one that the engine has no more.
    gone = {key for key in declared.containers.keys() & different.keys() if _is_gone(key, declared, found, record)}
    for key in different.keys() | {f"{key}-image" for key in gone}:
        answer["generations"][key] = answer["generations"].get(key, 0) + 1
    if ensure:
        _make_way(declared, found, record, different)
        if different:
            pilot_file.update(declared.data_directory, generations=answer["generations"])


if __name__ == "__main__":
    program.run(main)
