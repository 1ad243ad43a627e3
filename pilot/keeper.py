"""What the keeper does and sees, for the commands that show it, and its rule for the one that asks for memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from keeper import census, dumps, host, idle, journal, probe, reserve
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


def wrong_reserve(settings: Settings) -> str:
    """Why the setting `memoryReserve` cannot be on this machine, with what to type; "" where it can."""
    return reserve.problem(settings.keeper.memory_reserve, host.memory().total)


def memory_lines(settings: Settings, api: Api, claude: Mapping[str, str]) -> list[str]:
    """The host's memory, the reserve, who would be stopped next, and why the others stay; `claude` is the watchers'."""
    memory, text = host.memory(), settings.keeper.memory_reserve
    told = f"Host's memory: {idle.size(memory.available)} of {idle.size(memory.total)} available"
    if text == "0":
        return [f"{told}; memoryReserve is 0, so nothing is stopped for it"]
    told += f", memoryReserve {idle.size(reserve.mib(text, memory.total))}"
    site = settings.site
    ours = parking(settings, api.token, print)
    try:
        found = census.workspaces(ours.engine, site.name, ours.coder.running(), claude)
    except (CoderError, EngineError) as error:
        return [f"{told}; who would be stopped next cannot be told: {error}"]
    even = even_s(site)
    stays = idle.in_the_way(found, ours.idle_s, even)
    next_ = "no workspace could be stopped now"
    for each in idle.order(found, ours.idle_s, even):
        # As right before a stop: Coder's record is up to two minutes old.
        if reason := probe.why_it_stays(ours.engine, each.container_id):
            stays.append(f"{each.title}: {reason}")
            continue
        has = "" if each.ram_mib is None else f", {idle.size(each.ram_mib)}"
        next_ = f"the first to be stopped: {each.title}{has}, unused for {idle.duration(each.rest_s)}"
        break
    return [f"{told}; {next_}", *(f"  stays: {each}" for each in stays)]


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
    if wrong := wrong_reserve(settings):
        yield wrong
    age_s = sample_age_s(site)
    if is_declared(site) and age_s is not None and age_s > LATE_S:
        yield f"the keeper has written no sample for {idle.duration(age_s)}: see `docker logs {site.keeper_container}`"
    try:
        said = json.loads((Path(site.data_dir) / names.KEEPER_STATUS).read_text())["problems"]
    except (OSError, ValueError, KeyError):
        return
    yield from (f"{part}: {told}" for part, told in said.items() if told != wrong)
