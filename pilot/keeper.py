"""What the keeper does and sees, for the commands that show it, and its rule for the one that asks for memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from keeper import census, dumps, host, idle, journal, reserve
from keeper.coder import Coder, CoderError
from keeper.engine import Engine, EngineError
from keeper.parking import Parking, stops_file
from keeper.samples import INTERVAL_S
from stack.jobs import backups, names, pilot_file
from stack.jobs.coder import Api
from stack.settings import Settings, Site

LATE_S = 3 * INTERVAL_S


def is_declared(site: Site) -> bool:
    """Whether the last `up` made one."""
    return site.keeper_container in pilot_file.containers(site.data_dir)


def parking(settings: Settings, token: str, say: Callable[[str], None]) -> Parking:
    """The keeper's own way to stop workspaces, with another token."""
    site = settings.site
    return Parking(
        engine=Engine(host=site.docker_host), coder=Coder(url=site.coder_url, token=token), stack=site.name,
        idle_s=settings.keeper.pressure_idle_ms / 1000, say=say, stops=stops_file(Path(site.data_dir)),
    )  # fmt: skip


def even_s(site: Site) -> float:
    """For how long the machine's clock has run evenly, as far as the samples tell."""
    newest, now_s, up_s = journal.tail(Path(site.data_dir) / names.SAMPLES), time.time(), host.uptime_s()
    return host.Clock(host.moments(newest), now_s, up_s, host.boot()).even_s(now_s, up_s)


def memory_line(settings: Settings, api: Api, claude: Mapping[str, str]) -> str:
    """The host's memory, the reserve, and who would be stopped next; `claude` is what the watchers say."""
    memory, text = host.memory(), settings.keeper.memory_reserve
    told = f"Host's memory: {idle.size(memory.available)} of {idle.size(memory.total)} available"
    if text == "0":
        return f"{told}; memoryReserve is 0, so nothing is stopped for it"
    told += f", memoryReserve {idle.size(reserve.mib(text, memory.total))}"
    site = settings.site
    ours = parking(settings, api.token, print)
    try:
        found = census.workspaces(ours.engine, site.name, ours.coder.running(), claude)
    except (CoderError, EngineError) as error:
        return f"{told}; who would be stopped next cannot be told: {error}"
    chosen = idle.order(found, ours.idle_s, even_s(site))
    if not chosen:
        return f"{told}; no workspace could be stopped now"
    first = chosen[0]
    has = "" if first.ram_mib is None else f", {idle.size(first.ram_mib)}"
    return f"{told}; the first to be stopped: {first.title}{has}, unused for {idle.duration(first.rest_s)}"


def work_line(site: Site) -> str:
    """Its last sample and its last dump."""
    age_s = sample_age_s(site)
    sampled = "no sample yet" if age_s is None else f"last sample {idle.duration(age_s)} ago"
    folder = Path(site.data_dir) / backups.FOLDER
    last = dumps.newest((each.name for each in folder.glob(f"*{backups.DUMP_SUFFIX}")), time.time())
    dumped = f"last dump {datetime.fromtimestamp(last[1]):%Y-%m-%d %H:%M}" if last else "no dump yet"
    return f"{sampled}, {dumped}"


def sample_age_s(site: Site) -> float | None:
    """Seconds since the newest sample, None where there is none."""
    records = journal.tail(Path(site.data_dir) / names.SAMPLES)
    moments = host.moments(records[-1:])
    return datetime.now(UTC).timestamp() - moments[0]["wall_s"] if moments else None


def troubles(settings: Settings) -> Iterator[str]:
    """What is wrong: what it says itself, and that it says nothing."""
    site = settings.site
    if wrong := reserve.problem(settings.keeper.memory_reserve, host.memory().total):
        yield wrong
    age_s = sample_age_s(site)
    if is_declared(site) and age_s is not None and age_s > LATE_S:
        yield f"the keeper has written no sample for {idle.duration(age_s)}: see `docker logs {site.keeper_container}`"
    try:
        said = json.loads((Path(site.data_dir) / names.KEEPER_STATUS).read_text())["problems"]
    except (OSError, ValueError, KeyError):
        return
    yield from (f"{part}: {told}" for part, told in said.items() if told != wrong)
