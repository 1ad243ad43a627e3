"""The stack's configuration as one frozen dataclass; every problem is reported at once, with what mends it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pulumi
from pulumi.runtime import config as runtime_config

from stack.containers import Limits

T = TypeVar("T")

HTTPS_PORT = 443
SECRET_KEYS = ("anthropicApiKey",)

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?")
_MEMORY = re.compile(r"(\d+)\s*(MiB|GiB)")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]")
_USERNAME = re.compile(r"[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*")
_IMAGE = re.compile(r"[a-z0-9][\w.\-/:]*(?::[\w.\-]+|@sha256:[0-9a-f]{64})")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SettingsError(pulumi.RunError):
    """The configuration has problems; the message lists them all."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole configuration. Each field is the key of the same name in camelCase."""

    name: str
    """Prefix of every Docker name: two stacks with different names live on one engine."""
    port: int
    """TCP port on 127.0.0.1 where Coder answers; with the tailnet on, also its plain http port there."""
    data_dir: str
    """Where the database and the backups live on the Docker host; relative to the checkout, or absolute."""
    access_url: str | None
    """The URL that people use; empty: derived from the tailnet, else http://127.0.0.1:<port>."""
    coder_image: str
    """Coder's image with tag or digest."""
    postgres_image: str
    """Postgres's image with tag or digest; its major version has to be that of the data."""
    workspace_images: tuple[str, ...]
    """Images that a workspace may have, separated by commas; the first is the default."""
    docker_host: str
    """The engine's address; only unix://, for everything else here happens on the same machine."""
    docker_socket: str
    """The engine's socket on the host, mounted into Coder."""
    admin_username: str
    """The first user's name."""
    admin_email: str
    """The first user's e-mail address, which is what the log-in form asks for."""
    idle_ttl_ms: int
    """A workspace stops this long after its start or last activity ("2h", "90m")."""
    idle_bump_ms: int
    """Activity moves the stop to now plus this."""
    keep_alive_max_h: int
    """A working Claude keeps its workspace alive this long at the most, in whole hours ("12h")."""
    workspace_memory_mb: int
    """A workspace's memory limit unless it asks for another, in MiB ("4GiB", "512MiB")."""
    workspace_memory_cap_mb: int
    """The most that a workspace may ask for, in MiB."""
    workspace_cpus: int
    """A workspace's CPUs unless it asks for another number."""
    workspace_cpus_cap: int
    """The most that a workspace may ask for."""
    coder_memory_mb: int
    """Coder's memory limit, in MiB ("2GiB")."""
    coder_cpus: int
    """Coder's CPUs."""
    postgres_memory_mb: int
    """Postgres's memory limit, in MiB ("1GiB")."""
    postgres_cpus: int
    """Postgres's CPUs."""
    tailnet: bool
    """Whether `tailscale serve` offers Coder on the tailnet, with HTTPS."""
    tailnet_name: str | None
    """The machine's name on the tailnet that is expected; empty: whatever it is called."""
    tailscale_socket: str | None
    """tailscaled's socket; empty: the usual one."""
    backups_kept: int
    """How many of the newest backups are kept."""
    purge_on_destroy: bool
    """Whether `pulumi destroy` deletes workspaces, their volumes and the data too."""
    verdict_min_days: int
    """`make verdict` says "too early" before so many days of history; nothing that runs depends on it."""
    verdict_min_net_gib_h_per_day: int
    """`make verdict` asks for so many GiB·h a day that parking gave back beyond what Coder and Postgres take."""
    verdict_max_failed_percent: int
    """`make verdict` bears so many failed builds, in percent."""
    verdict_max_stopped_runs: int
    """`make verdict` bears so many runs of Claude that autostop ended while they worked."""
    service_environment: Mapping[str, str]
    """Variables that every workspace gets, as a JSON object: addresses of sibling services, for one."""
    anthropic_base_url: str | None
    """ANTHROPIC_BASE_URL in every workspace, for a LiteLLM; empty: Anthropic's own."""
    anthropic_api_key: pulumi.Output[str] | None
    """ANTHROPIC_API_KEY in every workspace; unset: everybody signs in. Always with `pulumi config set --secret`."""

    @property
    def coder_limits(self) -> Limits:
        """What Coder's container may use."""
        return Limits(memory_mb=self.coder_memory_mb, cpus=self.coder_cpus)

    @property
    def postgres_limits(self) -> Limits:
        """What Postgres's container may use."""
        return Limits(memory_mb=self.postgres_memory_mb, cpus=self.postgres_cpus)

    def workspace_variables(self) -> dict[str, pulumi.Input[str]]:
        """The template's variables that are the owner's choice, as Terraform takes them: strings, JSON for lists."""
        return {
            "name_prefix": self.name,
            "workspace_images": json.dumps(self.workspace_images),
            "memory_default_mb": str(self.workspace_memory_mb),
            "memory_cap_mb": str(self.workspace_memory_cap_mb),
            "cpus_default": str(self.workspace_cpus),
            "cpus_cap": str(self.workspace_cpus_cap),
            "keep_alive_max_hours": str(self.keep_alive_max_h),
            "service_environment": json.dumps(self.service_environment, sort_keys=True),
            "anthropic_base_url": self.anthropic_base_url or "",
            **({"anthropic_api_key": self.anthropic_api_key} if self.anthropic_api_key is not None else {}),
        }


def duration_ms(text: str) -> int:
    """Milliseconds of "2h", "90m" or "1h30m".

    Raises:
        ValueError: `text` is none of these, or zero.
    """
    match = _DURATION.fullmatch(text.strip())
    total_min = 60 * int(match[1] or 0) + int(match[2] or 0) if match else 0
    if total_min == 0:
        raise ValueError('a time above zero, written "2h", "90m" or "1h30m"')
    return total_min * 60_000


def memory_mb(text: str) -> int:
    """MiB of "512MiB" or "4GiB".

    Raises:
        ValueError: `text` is neither, or below 64 MiB.
    """
    match = _MEMORY.fullmatch(text.strip())
    total_mb = int(match[1]) * (1024 if match[2] == "GiB" else 1) if match else 0
    if total_mb < 64:
        raise ValueError('at least 64MiB, written "512MiB" or "4GiB"')
    return total_mb


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.strip().isdecimal() or not lowest <= int(text) <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(what)
        return text

    return parse


_image = _matching(_IMAGE, "an image with its tag or digest, such as postgres:17")


def _images(text: str) -> tuple[str, ...]:
    return tuple(_image(name.strip()) for name in text.split(","))


def _optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    return lambda text: parse(text) if text else None


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("an absolute path")
    return text


def _data_dir(text: str) -> str:
    if not text or text == "/":
        raise ValueError("a folder of the pilot's own")
    return text if text.startswith("/") else str(Path.cwd() / text)


def _docker_host(text: str) -> str:
    if not text.startswith("unix:///"):
        raise ValueError("unix:///path/to/docker.sock: the pilot runs on the machine where `pulumi` runs")
    return text


def _hours(text: str) -> int:
    value_ms = duration_ms(text)
    if value_ms % 3_600_000:
        raise ValueError('whole hours, written "12h"')
    return value_ms // 3_600_000


def _variables(text: str) -> Mapping[str, str]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or not all(
        _ENVIRONMENT_NAME.fullmatch(name) and isinstance(item, str) for name, item in value.items()
    ):
        raise ValueError('a JSON object of strings, such as {"OLLAMA_HOST": "http://host.docker.internal:11434"}')
    return value


_url = _matching(re.compile(r"https?://[^/\s?#]+(/[^\s?#]*)?"), "an http:// or https:// address")

_PARSERS: Mapping[str, Callable[[str], object]] = {
    "name": _matching(_NAME, "2 to 32 small letters, digits and hyphens, a letter first"),
    "port": _whole(1, 65535),
    "dataDir": _data_dir,
    "accessUrl": _optional(_url),
    "coderImage": _image,
    "postgresImage": _image,
    "workspaceImages": _images,
    "dockerHost": _docker_host,
    "dockerSocket": _absolute,
    "adminUsername": _matching(_USERNAME, "letters, digits and single hyphens"),
    "adminEmail": _matching(re.compile(r"[^@\s]+@[^@\s]+"), "an e-mail address"),
    "idleTtl": duration_ms,
    "idleBump": duration_ms,
    "keepAliveMax": _hours,
    "workspaceMemory": memory_mb,
    "workspaceMemoryCap": memory_mb,
    "workspaceCpus": _whole(1, 512),
    "workspaceCpusCap": _whole(1, 512),
    "coderMemory": memory_mb,
    "coderCpus": _whole(1, 512),
    "postgresMemory": memory_mb,
    "postgresCpus": _whole(1, 512),
    "tailnet": _flag,
    "tailnetName": _optional(_matching(re.compile(r"[a-z0-9][a-z0-9-]*"), "a machine's name, without the domain")),
    "tailscaleSocket": _optional(_absolute),
    "backupsKept": _whole(1, 1000),
    "purgeOnDestroy": _flag,
    "verdictMinDays": _whole(1, 366),
    "verdictMinNetGibHPerDay": _whole(0, 100_000),
    "verdictMaxFailedPercent": _whole(0, 100),
    "verdictMaxStoppedRuns": _whole(0, 1000),
    "serviceEnvironment": _variables,
    "anthropicBaseUrl": _optional(_url),
}

_FIELD_OF_KEY: Mapping[str, str] = {
    "idleTtl": "idle_ttl_ms",
    "idleBump": "idle_bump_ms",
    "keepAliveMax": "keep_alive_max_h",
    "workspaceMemory": "workspace_memory_mb",
    "workspaceMemoryCap": "workspace_memory_cap_mb",
    "coderMemory": "coder_memory_mb",
    "postgresMemory": "postgres_memory_mb",
}


def field_of(key: str) -> str:
    """The name of the field that the key `key` sets."""
    return _FIELD_OF_KEY.get(key) or re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower()


def parse(values: Mapping[str, str], anthropic_api_key: pulumi.Output[str] | None = None) -> Settings:
    """The settings of `values`, whose keys have no project prefix.

    Raises:
        SettingsError: a value is missing, unknown or not allowed; lists every such key.
    """
    problems = [_unknown(key) for key in values if key not in _PARSERS and key not in SECRET_KEYS]
    fields: dict[str, object] = {}
    for key, parser in _PARSERS.items():
        if key not in values:
            problems.append(f"{key} is not set: run `pulumi config set {key} <value>`")
            continue
        try:
            fields[field_of(key)] = parser(values[key])
        except ValueError as error:
            problems.append(
                f"{key} is {json.dumps(values[key])}, allowed is {error}: run `pulumi config set {key} <value>`"
            )
    for limit, cap in (("workspaceMemory", "workspaceMemoryCap"), ("workspaceCpus", "workspaceCpusCap")):
        low, high = fields.get(field_of(limit)), fields.get(field_of(cap))
        if isinstance(low, int) and isinstance(high, int) and low > high:
            problems.append(
                f"{limit} is {values[limit]}, above {cap}, which is {values[cap]}: "
                f"run `pulumi config set {cap} {values[limit]}`"
            )
    if fields.get("tailnet") and fields.get("port") == HTTPS_PORT:
        problems.append(
            "port is 443, which the tailnet's https address needs: run `pulumi config set port 7080`, "
            "or `pulumi config set tailnet false`"
        )
    if problems:
        raise SettingsError("the configuration has problems:\n" + "\n".join(f"  - {each}" for each in problems))
    return Settings(**fields, anthropic_api_key=anthropic_api_key)  # type: ignore[arg-type]


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, [*_PARSERS, *SECRET_KEYS], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{key} is no setting: {hint}run `pulumi config rm {key}`"


def load() -> Settings:
    """The settings of the stack that is running.

    Raises:
        SettingsError: as `parse`; or a secret is stored in plain text.
    """
    config = pulumi.Config()
    prefix = f"{config.name}:"
    # The engine hands the configuration over in the environment, tests set it by `set_all_config`.
    everything = {**runtime_config.get_config_env(), **runtime_config.CONFIG.get()}
    values = {key.removeprefix(prefix): str(value) for key, value in everything.items() if key.startswith(prefix)}
    secrets = {*runtime_config.get_config_secret_keys_env(), *runtime_config._SECRET_KEYS.get()}
    for key in SECRET_KEYS:
        if key in values and prefix + key not in secrets:
            raise SettingsError(f"{key} is stored in plain text: run `pulumi config set --secret {key}`")
    return parse(values, config.get_secret("anthropicApiKey"))
