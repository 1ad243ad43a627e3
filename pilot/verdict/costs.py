"""What the pilot takes on disk, and what retiring it would remove and keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pilot.verdict.collect import Raw
from pilot.verdict.workspaces import title
from stack.jobs.names import KUBERNETES_TEMPLATE, WORKSPACE_LABEL, home_volume

BYTES_PER_GIB: Final = 1024**3


@dataclass(frozen=True, kw_only=True)
class Disk:
    """In GiB."""

    data: float | None
    images: float | None
    volumes: float | None
    dumps: float | None
    dumps_count: int | None
    newest_dump: str


def disk(raw: Raw) -> Disk:
    """What the database, images, homes and backups take."""
    images = volumes = None
    if raw.disk is not None and raw.containers is not None:
        used = {each["ImageID"] for each in raw.containers}
        named = {each.get("image") for each in raw.parameters.values()}
        images = sum(
            each["Size"] for each in raw.disk.get("Images") or []
            if each["Id"] in used or named & set(each.get("RepoTags") or [])
        ) / BYTES_PER_GIB  # fmt: skip
        sizes = [(each.get("UsageData") or {}).get("Size", -1) for each in _volumes(raw)]
        # The engine says -1 where it did not measure.
        volumes = None if -1 in sizes else sum(sizes) / BYTES_PER_GIB
    dumps = raw.dumps
    return Disk(
        data=None if raw.data_bytes is None else raw.data_bytes / BYTES_PER_GIB,
        images=images,
        volumes=volumes,
        dumps=None if dumps is None else sum(size for _, size in dumps) / BYTES_PER_GIB,
        dumps_count=None if dumps is None else len(dumps),
        newest_dump=dumps[-1][0] if dumps else "",
    )


def _volumes(raw: Raw) -> list[dict[str, Any]]:
    """The home volumes of the workspaces that Coder knows."""
    ours = {each["id"] for each in raw.workspaces}
    found = (raw.disk or {}).get("Volumes") or []
    return [each for each in found if (each.get("Labels") or {}).get(WORKSPACE_LABEL) in ours]


def removed(raw: Raw) -> tuple[str, ...] | None:
    """The containers and networks that `make down` would remove."""
    if raw.containers is None or raw.networks is None:
        return None
    return (
        *sorted(f"container {each['Names'][0].removeprefix('/')}" for each in raw.containers),
        *sorted(f"network {each['Name']}" for each in raw.networks),
    )


def kept(raw: Raw) -> tuple[str, ...] | None:
    """The volumes and claims that it would keep."""
    if raw.disk is None:
        return None
    titles = {each["id"]: title(each) for each in raw.workspaces}
    homes = [(titles[each["Labels"][WORKSPACE_LABEL]], f"volume {each['Name']}") for each in _volumes(raw)]
    homes += [
        (title(each), f"claim {home_volume(each['id'])}")
        for each in raw.workspaces
        if each["template_name"] == KUBERNETES_TEMPLATE and raw.builds[each["id"]][-1]["transition"] != "delete"
    ]
    return tuple(f"{home} (home of {owner})" for owner, home in sorted(homes))
