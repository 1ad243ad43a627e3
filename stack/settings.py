"""The settings of a stack: groups of values, one group for each part; parsing reports every problem at once.

Needs no Pulumi SDK: `stack/configuration.py` reads the values for the program, `pilot/configuration.py` for the front
door, and both parse them here.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Generic, Literal, TypeVar, cast, get_type_hints

from stack.jobs import names

T = TypeVar("T")

HTTP_PORT = 80
HTTPS_PORT = 443

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?")
_MEMORY = re.compile(r"(\d+)\s*(MiB|GiB)")
_SHARE = re.compile(r"([1-9]\d?)\s*%")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]")
# Coder takes `me` for whoever asks: a user of that name is made, and each of its apps answers 500 (seen on 2.30.0).
_USERNAME = re.compile(r"(?!(?i:new|create|me)\Z)(?=.{1,32}\Z)[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*")
_IMAGE = re.compile(r"[a-z0-9][\w.\-/:]*(?::[\w.\-]+|@sha256:[0-9a-f]{64})")
_MACHINE = re.compile(r"[a-z0-9][a-z0-9-]*")
_ZONE = re.compile(r"[A-Za-z0-9_+\-/]+")
# The part below it, <port>--main--<workspace>--<user>, is one label.
_DOMAIN = re.compile(r"(?=.{4,180}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
_CONTAINER = re.compile(r"[a-zA-Z0-9][\w.-]+")
_KUBERNETES_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_KUBERNETES_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What bash's `readonly -p` lists: a workspace could not be given another value.
_READ_ONLY = frozenset({"BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"})


class SettingsError(Exception):
    """The settings have problems; `problems` has one line for each, with the command that fixes it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("the configuration has problems:\n" + "\n".join(f"  - {each}" for each in problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Encrypted(Generic[T]):
    """A value that is encrypted in the stack's file. `plain` is None outside of Pulumi, where nothing needs it."""

    plain: T | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Key:
    """Which key sets a field, and how its text is parsed; `parse` raises a ValueError that says what is allowed."""

    name: str
    parse: Callable[[str], object]
    encrypted: Literal["never", "may be", "always"] = "never"
    """One that is always encrypted may be unset, and then is None."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where the pilot runs on this machine, and what its parts are called there."""

    name: Annotated[str, Key("name", _matching(_NAME, "2 to 32 small letters, digits and hyphens, a letter first"))]
    """Prefix of every Docker name: two stacks with different names live on one engine."""
    port: Annotated[int, Key("port", _whole(1, 65535))]
    """TCP port on 127.0.0.1, and on the tailnet for http, where Coder answers; if it changes, update workspaces."""
    data_dir: Annotated[str, Key("dataDir", _data_dir)]
    """Where database and backups are: absolute, or relative to the checkout, where Git sees nothing of them."""
    docker_host: Annotated[str, Key("dockerHost", _docker_host)]
    """The engine's address; only unix://, for everything else here happens on the same machine."""
    docker_socket: Annotated[str, Key("dockerSocket", _absolute)]
    """The engine's socket on the host, mounted into Coder."""

    @property
    def coder_url(self) -> str:
        """Where this machine reaches Coder, whatever its access URL is."""
        return f"http://{names.LOOPBACK}:{self.port}"

    @property
    def tls_port(self) -> int:
        """TCP port on 127.0.0.1 where Coder answers with https, if it has a domain of its own."""
        return names.tls_port(self.port)

    @property
    def coder_container(self) -> str:
        """The name of Coder's container."""
        return names.coder_container(self.name)

    @property
    def postgres_container(self) -> str:
        """The name of Postgres's container."""
        return names.postgres_container(self.name)

    @property
    def keeper_container(self) -> str:
        """The name of the keeper's container."""
        return names.keeper_container(self.name)

    def environment(self) -> dict[str, str]:
        """The same, as the variables that jobs read."""
        return {
            "CODER_URL": self.coder_url,
            "CODER_CONTAINER": self.coder_container,
            "POSTGRES_CONTAINER": self.postgres_container,
            "DOCKER_HOST": self.docker_host,
            "DATA_DIRECTORY": self.data_dir,
            "ROLE": names.ROLE,
            "DATABASE": names.DATABASE,
            "TOKEN_PREFIX": names.TOKEN_PREFIX,
        }


@dataclass(frozen=True, kw_only=True)
class Database:
    """Postgres."""

    image: Annotated[str, Key("postgresImage", _image)]
    """Postgres's image with tag or digest; its major version has to be that of the data."""
    memory_mb: Annotated[int, Key("postgresMemory", memory_mb)]
    """Postgres's memory limit, in MiB ("1GiB")."""
    cpus: Annotated[int, Key("postgresCpus", _whole(1, 512))]
    """Postgres's CPUs."""


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """Coder's server."""

    access_url: Annotated[str | None, Key("accessUrl", _optional(_origin))]
    """The URL that people use, without a path; empty: derived from the tailnet, else http://127.0.0.1:<port>."""
    image: Annotated[str, Key("coderImage", _image)]
    """Coder's image with tag or digest."""
    memory_mb: Annotated[int, Key("coderMemory", memory_mb)]
    """Coder's memory limit, in MiB ("2GiB")."""
    cpus: Annotated[int, Key("coderCpus", _whole(1, 512))]
    """Coder's CPUs."""


@dataclass(frozen=True, kw_only=True)
class Workspaces:
    """What every workspace has, and when it stops."""

    images: Annotated[tuple[str, ...], Key("workspaceImages", _images)]
    """Images that a workspace may have: a list, or separated by commas; the first is the default."""
    memory_mb: Annotated[int, Key("workspaceMemory", _workspace_memory_mb)]
    """A workspace's memory limit unless it asks for another, in MiB ("4GiB", "512MiB"), at least 512MiB."""
    memory_cap_mb: Annotated[int, Key("workspaceMemoryCap", memory_mb)]
    """The most that a workspace may ask for, in MiB."""
    cpus: Annotated[int, Key("workspaceCpus", _whole(1, 512))]
    """A workspace's CPUs unless it asks for another number."""
    cpus_cap: Annotated[int, Key("workspaceCpusCap", _whole(1, 512))]
    """The most that a workspace may ask for."""
    shm_mb: Annotated[int, Key("workspaceShm", memory_mb)]
    """Size of a workspace's /dev/shm, in MiB; what is in it counts for its memory."""
    trust: Annotated[bool, Key("workspaceTrust", _flag)]
    """Whether the editor asks once, for each project, if it may run the code in it; false: it runs it unasked."""
    pids: Annotated[int, Key("workspacePids", _whole(512, 1_000_000))]
    """The most processes and threads that a workspace may have."""
    stop_grace_s: Annotated[int, Key("stopGraceSeconds", _whole(0, 60))]
    """How many seconds the programs in a workspace may take to end when it is stopped."""
    idle_ttl_ms: Annotated[int, Key("idleTtl", duration_ms)]
    """A workspace stops this long after its start or last activity ("2h", "90m")."""
    idle_bump_ms: Annotated[int, Key("idleBump", duration_ms)]
    """Activity moves the stop to now plus this."""
    keep_alive_max_h: Annotated[int, Key("keepAliveMax", _hours)]
    """A working Claude keeps its workspace alive this long at most, in whole hours ("12h")."""
    timezone: Annotated[str, Key("timezone", _time_zone)]
    """TZ in every workspace, such as Europe/Berlin; empty: the image's own time zone, which mostly is UTC."""
    service_environment: Annotated[
        Mapping[str, str] | Encrypted[Mapping[str, str]], Key("serviceEnvironment", _variables, "may be")
    ]
    """Variables that every workspace gets, such as the addresses of sibling services: an object, or one as JSON."""
    anthropic_base_url: Annotated[str | None, Key("anthropicBaseUrl", _optional(_url))]
    """ANTHROPIC_BASE_URL in every workspace, for a LiteLLM; empty: Anthropic's own."""
    anthropic_api_key: Annotated[Encrypted[str] | None, Key("anthropicApiKey", _token, "always")]
    """ANTHROPIC_API_KEY in every workspace; unset: everybody signs in. Always with `pulumi config set --secret`."""
    claude_code_oauth_token: Annotated[Encrypted[str] | None, Key("claudeCodeOauthToken", _token, "always")]
    """CLAUDE_CODE_OAUTH_TOKEN in every workspace, which `claude setup-token` prints; in place of `anthropicApiKey`."""


@dataclass(frozen=True, kw_only=True)
class Tailnet:
    """The way in from other machines."""

    enabled: Annotated[bool, Key("tailnet", _flag)]
    """Whether `tailscale serve` offers Coder on the tailnet, with HTTPS."""
    name: Annotated[
        str | None, Key("tailnetName", _optional(_matching(_MACHINE, "a machine's name, without the domain")))
    ]
    """The machine's name on the tailnet that is expected; empty: whatever it is called."""
    socket: Annotated[str | None, Key("tailscaleSocket", _optional(_absolute))]
    """tailscaled's socket; empty: the usual one."""
    domain: Annotated[str | None, Key("domain", _optional(_domain))]
    """A domain of your own that leads to this machine's address on the tailnet, for Coder and, below it, all apps."""
    certificate: Annotated[str | None, Key("tlsCertificate", _optional(_absolute))]
    """The domain's certificate with its chain, for the domain and all names below it: a PEM file on this machine."""
    key: Annotated[str | None, Key("tlsKey", _optional(_absolute))]
    """The certificate's private key: a PEM file on this machine."""

    def environment(self, site: Site) -> dict[str, str]:
        """What `stack/jobs/serve.py` reads."""
        return {
            "PORT": str(site.port),
            "MACHINE": self.name or "",
            "TAILSCALE_SOCKET": self.socket or "",
            "DOMAIN": self.domain or "",
        }


@dataclass(frozen=True, kw_only=True)
class Kubernetes:
    """A cluster for workspaces, beside this machine's engine; docs/kubernetes.md says how it is prepared."""

    kubeconfig: Annotated[str | None, Key("kubernetesKubeconfig", _optional(_absolute))]
    """A kubeconfig with a token in it, a file on this machine; empty: no cluster, and no template for one."""
    namespace: Annotated[
        str, Key("kubernetesNamespace", _matching(_KUBERNETES_LABEL, "the name of a Kubernetes namespace"))
    ]
    """The namespace of workspaces there; pilots that share one need different `name`s."""
    storage_class: Annotated[
        str | None,
        Key("kubernetesStorageClass", _optional(_matching(_KUBERNETES_NAME, "the name of a storage class"))),
    ]
    """The storage class of new homes; empty: the cluster's default."""
    agent_url: Annotated[str | None, Key("kubernetesAgentUrl", _optional(_origin))]
    """Where workspaces on the cluster reach Coder, without a path; empty: http://<agentAddress>:<port>."""
    agent_address: Annotated[str | None, Key("agentAddress", _optional(_node_address))]
    """One more address of this machine on which Coder answers: the one that the cluster's nodes reach."""

    def environment(self) -> dict[str, str]:
        """What `stack/jobs/coder_records.py` reads; nothing without a cluster."""
        return {"KUBERNETES_NAMESPACE": self.namespace} if self.kubeconfig else {}


@dataclass(frozen=True, kw_only=True)
class Member:
    """The account for every day: a plain member, to whom new workspaces belong."""

    username: Annotated[str, Key("username", _username)]
    """Your username in Coder, a part of the addresses of apps; another one renames the account."""
    name: Annotated[str, Key("fullName", _full_name)]
    """Your full name, which Git puts into commits; empty: the one in Coder, or without one the username."""
    email: Annotated[str, Key("email", _matching(_EMAIL, "an e-mail address"))]
    """Your e-mail address, for the log-in form and Git's commits; Coder cannot change it once the account exists."""
    password: Annotated[Encrypted[str] | None, Key("password", _password, "always")]
    """Your password; unset: one is generated. Always with `pulumi config set --secret`."""


@dataclass(frozen=True, kw_only=True)
class Admin:
    """The administrator, whom `up` signs in as, and a person in an emergency."""

    username: Annotated[str, Key("adminUsername", _username)]
    """The administrator's username; another one renames the account in Coder."""
    name: Annotated[str, Key("adminName", _full_name)]
    """The administrator's full name; empty: the one in Coder, or without one the username."""
    email: Annotated[str, Key("adminEmail", _matching(_EMAIL, "an e-mail address"))]
    """The administrator's e-mail address, for the log-in form; that of another owner makes him the administrator."""
    password: Annotated[Encrypted[str] | None, Key("adminPassword", _password, "always")]
    """The administrator's password; unset: one is generated. Always with `pulumi config set --secret`."""


@dataclass(frozen=True, kw_only=True)
class Retirement:
    """What is kept."""

    backups_kept: Annotated[int, Key("backupsKept", _whole(1, 1000))]
    """How many of the newest backups are kept."""
    purge: Annotated[bool, Key("purgeOnDestroy", _flag)]
    """Whether `pulumi destroy` deletes workspaces, their volumes and the data too."""


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """What looks after the pilot."""

    backup_at: Annotated[str, Key("backupAt", _time_of_day)]
    """When the database is dumped every night ("03:30"), by the setting `timezone`, else the machine's own time."""
    memory_reserve: Annotated[str, Key("memoryReserve", _reserve)]
    """While the host has less memory left, idle workspaces are stopped: a size, a share ("10%"), or 0 for never."""
    pressure_idle_ms: Annotated[int, Key("pressureIdle", duration_ms)]
    """A workspace is stopped for memory only after so long without a connection, a start, or Claude at work ("10m")."""
    samples_mb: Annotated[int, Key("samplesSize", memory_mb)]
    """The samples for the verdict take so much at most, in MiB ("64MiB")."""
    samples_days: Annotated[int, Key("samplesDays", _whole(2, 3660))]
    """The samples of so many days are kept at most, and of half as many at least."""
    standalone: Annotated[str | None, Key("standaloneContainer", _optional(_container))]
    """A container that the pilot is compared with in the verdict, such as an editor of before; empty: none."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """When `make verdict` says that the pilot is worth keeping; nothing that runs depends on these."""

    min_days: Annotated[int, Key("verdictMinDays", _whole(1, 366))]
    """`make verdict` says "too early" before so many days of history; nothing that runs depends on it."""
    min_net_gib_h_per_day: Annotated[int, Key("verdictMinNetGibHPerDay", _whole(0, 100_000))]
    """`make verdict` asks for so many GiB·h a day that parking gave back beyond what the pilot takes."""
    max_failed_percent: Annotated[int, Key("verdictMaxFailedPercent", _whole(0, 100))]
    """`make verdict` accepts so many failed builds, in percent."""
    max_stopped_runs: Annotated[int, Key("verdictMaxStoppedRuns", _whole(0, 1000))]
    """`make verdict` accepts so many runs of Claude that a stop by autostop or for memory ended while they worked."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All groups."""

    site: Site
    database: Database
    control_plane: ControlPlane
    workspaces: Workspaces
    tailnet: Tailnet
    kubernetes: Kubernetes
    member: Member
    admin: Admin
    retirement: Retirement
    keeper: Keeper
    verdict: Verdict

    @property
    def kubernetes_agent_url(self) -> str:
        """Where workspaces on the cluster reach Coder."""
        return self.kubernetes.agent_url or f"http://{self.kubernetes.agent_address}:{self.site.port}"

    @property
    def apps_domain(self) -> str:
        """The domain, with the port, below which each app of a workspace has a name of its own.

        "" on an address that has no names below it, where apps are paths of Coder's own address.
        """
        if self.tailnet.enabled:
            return self.tailnet.domain or ""
        host = cast(re.Match[str], _ORIGIN.fullmatch(self.control_plane.access_url or self.site.coder_url))[1]
        return f"localhost:{self.site.port}" if _LOOPBACK.fullmatch(host) else ""


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


def memory_mb(text: str, lowest: int = 64) -> int:
    """MiB of "512MiB" or "4GiB".

    Raises:
        ValueError: `text` is neither, or below `lowest` MiB.
    """
    match = _MEMORY.fullmatch(text.strip())
    total_mb = int(match[1]) * (1024 if match[2] == "GiB" else 1) if match else 0
    if total_mb < lowest:
        raise ValueError(f'at least {lowest}MiB, whole MiB or GiB, written "512MiB" or "4GiB"')
    return total_mb


def _workspace_memory_mb(text: str) -> int:
    # An editor alone takes 256.
    return memory_mb(text, 512)


def _reserve(text: str) -> str:
    """ "10%", or MiB as a number; "0" for none."""
    if text.strip() == "0":
        return "0"
    if match := _SHARE.fullmatch(text.strip()):
        return f"{match[1]}%"
    try:
        return str(memory_mb(text))
    except ValueError:
        raise ValueError('a size, written "8GiB", a share of the memory from 1% to 99%, or 0') from None


def _time_of_day(text: str) -> str:
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError('a time of the day, written "03:30"')
    return f"{int(match[1]):02}:{match[2]}"


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


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text) or text.endswith((".localhost", ".ts.net")):
        raise ValueError("a domain of your own in small letters, such as coder.example.com, without what is below it")
    return text


_username = _matching(
    _USERNAME, "up to 32 letters, digits and single hyphens, but not `me`, whose apps Coder would not open"
)
_container = _matching(_CONTAINER, "a container's name")
_image = _matching(_IMAGE, "an image with its tag or digest, such as postgres:17")


def _images(text: str) -> tuple[str, ...]:
    found = _json(text) if text.startswith("[") else text.split(",")
    if not isinstance(found, list) or not found:
        raise ValueError("a list of images with their tags or digests")
    images = tuple(_image(str(each).strip()) for each in found)
    if len({slug(each) for each in images}) < len(images):
        raise ValueError("images whose names differ in more than capitals and punctuation, each once")
    return images


def slug(image: str) -> str:
    """The image's name as a part of other names."""
    return re.sub(r"[^a-z0-9]+", "-", image.lower()).strip("-")


def _optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    return lambda text: parse(text) if text else None


def _password(text: str) -> str:
    # The rest of its rules Coder knows. Its `reset-password` would read on after a line that begins as JSON does.
    if not text.isprintable() or not 8 <= len(text.encode()) <= 64 or text[0] in "{[":
        raise ValueError("8 to 64 printable characters, the first no { or [")
    return text


def _full_name(text: str) -> str:
    # Coder's own rules, and what Git would take out of a commit.
    if len(text.encode()) > 128 or text != text.strip() or not (text.isprintable() and not set(text) & set("<>")):
        raise ValueError("a name of at most 128 bytes without < and >")
    return text


def _time_zone(text: str) -> str:
    if not text:
        return text
    # Only here: every command reads the settings, and most have none to look up.
    import zoneinfo

    try:
        # What no file describes a program takes for UTC, without a word.
        zoneinfo.ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        # Where this machine has no such files itself, nobody can tell.
        if zoneinfo.available_timezones() or not _ZONE.fullmatch(text):
            raise ValueError("empty or the name of a time zone, such as Europe/Berlin") from None
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("an absolute path")
    return text


def _data_dir(text: str) -> str:
    # The checkout itself is none.
    if str(PurePosixPath(text)) in (".", "/"):
        raise ValueError("a folder of the pilot's own")
    if text.startswith("~"):
        raise ValueError(f"a whole path, such as {Path.home()}/coder: nothing expands `~` here")
    return text


def _docker_host(text: str) -> str:
    if not text.startswith("unix:///"):
        raise ValueError("unix:///path/to/docker.sock: the pilot runs on the machine where `pulumi` runs")
    return text


def _hours(text: str) -> int:
    value_ms = duration_ms(text)
    if value_ms % 3_600_000:
        raise ValueError('whole hours, written "12h"')
    return value_ms // 3_600_000


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _variables(text: str) -> Mapping[str, str]:
    value = _json(text)
    if not isinstance(value, dict) or not all(
        _ENVIRONMENT_NAME.fullmatch(name) and isinstance(item, str | int | float) for name, item in value.items()
    ):
        raise ValueError(
            'an object of strings, such as {"OLLAMA_HOST": "http://host.docker.internal:11434"}; '
            "`pulumi config set --path serviceEnvironment.<name> <value>` sets one"
        )
    # Numbers and booleans too: that is what `pulumi config set --path` makes of `8080` and `true`.
    texts = {name: item if isinstance(item, str) else json.dumps(item) for name, item in value.items()}
    if kept := sorted(_READ_ONLY & texts.keys()):
        raise ValueError(f"other names than {', '.join(kept)}, which bash keeps read-only")
    if expanded := [name for name, item in texts.items() if "$" in item]:
        # The values may be secret.
        raise ValueError(f"values without `$`, which a workspace would expand; {', '.join(expanded)} has one")
    return texts


def _node_address(text: str) -> str:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        address = None
    # Over http, and so for a network of one's own: 10.0.0.0/8 and the like, or the tailnet's 100.64.0.0/10.
    if address is None or address.is_global or address.is_unspecified or address.is_loopback or address.is_multicast:
        raise ValueError("an IPv4 address of this machine on a private network, such as 192.168.1.10, never 0.0.0.0")
    return text


# The agent would expand `$` in it, as in the values of serviceEnvironment.
_url = _matching(re.compile(r"https?://[^/\s?#$]+(/[^\s?#$]*)?"), "an http:// or https:// address without `$`")
# Terminals wrap long ones, and what is copied then has line breaks, which no HTTP header may have.
_token = _matching(re.compile(r"[!-~]+"), "one word without spaces and line breaks")

_ORIGIN = re.compile(r"https?://([^/\s?#@:\[\]]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_LOOPBACK = re.compile(r"127\.[0-9.]+|\[::1\]|(?:[^.]+\.)*localhost")


def _origin(text: str) -> str:
    # Coder's own scripts put paths behind it: with a slash at its end they would have two.
    return _matching(_ORIGIN, "an http:// or https:// address without a path")(text.removesuffix("/"))


def _reachable(url: str, port: int) -> str:
    """`url`; where it is of this machine alone, and not Coder's, the one that is."""
    host = cast(re.Match[str], _ORIGIN.fullmatch(url))[1]
    if not _LOOPBACK.fullmatch(host):
        return url
    own = f"http://{host if host.endswith('localhost') else names.LOOPBACK}:{port}"
    return url if own in (url, f"{url}:{HTTP_PORT}") else own


_GROUPS = get_type_hints(Settings)
KEYS: Mapping[str, tuple[str, str, Key]] = {
    hint.__metadata__[0].name: (group, field, hint.__metadata__[0])
    for group, cls in _GROUPS.items()
    for field, hint in get_type_hints(cls, include_extras=True).items()
}
"""Every key, with the group and the field that it sets."""


def parse(values: Mapping[str, str | Encrypted[str]], folder: Path) -> Settings:
    """The settings of `values`, whose keys have no project prefix; lists and objects are JSON, as Pulumi passes them.

    A relative data directory is below `folder`.

    Raises:
        SettingsError: a value is missing, unknown or not allowed; lists every such key.
    """
    problems = [_unknown(key) for key in values if key not in KEYS]
    parsed: dict[str, object] = {}
    for name, (_, _, key) in KEYS.items():
        try:
            parsed[name] = _parsed(key, values.get(name))
        except ValueError as error:
            problems.append(str(error))
    for limit, cap in (("workspaceMemory", "workspaceMemoryCap"), ("workspaceCpus", "workspaceCpusCap")):
        low, high = parsed.get(limit), parsed.get(cap)
        if isinstance(low, int) and isinstance(high, int) and low > high:
            problems.append(
                f"{limit} is {values[limit]}, above {cap}, which is {values[cap]}: "
                f"run `pulumi config set {cap} {values[limit]}`"
            )
    if parsed.get("tailnet") and parsed.get("port") == HTTPS_PORT:
        problems.append(
            "port is 443, which the tailnet's https address needs: run `pulumi config set port 7080`, "
            "or `pulumi config set tailnet false`"
        )
    if parsed.get("anthropicApiKey") and parsed.get("claudeCodeOauthToken"):
        problems.append(
            "anthropicApiKey and claudeCodeOauthToken are both set, and Claude Code would use the key alone: run "
            "`pulumi config rm anthropicApiKey`, or to pay by the key `pulumi config rm claudeCodeOauthToken`"
        )
    url, port = parsed.get("accessUrl"), parsed.get("port")
    if isinstance(url, str) and isinstance(port, int) and (reachable := _reachable(url, port)) != url:
        problems.append(
            f"accessUrl is {values['accessUrl']}, but on this machine Coder answers on port {port} alone, with http: "
            f"run `pulumi config set accessUrl {reachable}`"
        )
    problems += _domain_problems(parsed) + _kubernetes_problems(parsed)
    for own, of_admin in (("username", "adminUsername"), ("email", "adminEmail")):
        value = parsed.get(own)
        if isinstance(value, str) and value.lower() == str(parsed.get(of_admin)).lower():
            problems.append(
                f"{own} and {of_admin} are both {value}, but the account for every day is not the administrator's: "
                f"run `pulumi config set {own} <value>`"
            )
    if problems:
        raise SettingsError(problems)
    parsed["dataDir"] = str(folder / str(parsed["dataDir"]))
    fields: dict[str, dict[str, object]] = {}
    for name, (group, attribute, _) in KEYS.items():
        fields.setdefault(group, {})[attribute] = parsed[name]
    return Settings(**{group: cls(**fields[group]) for group, cls in _GROUPS.items()})


def _domain_problems(parsed: Mapping[str, object]) -> list[str]:
    """What a domain of one's own needs beside it."""
    domain, files = parsed.get("domain"), ("tlsCertificate", "tlsKey")
    if "domain" not in parsed:
        return []
    if not isinstance(domain, str):
        given = [key for key in files if parsed.get(key)]
        return [f"{key} is set, but domain is not: run `pulumi config set domain <domain>`" for key in given]
    missing = [key for key in files if key in parsed and not parsed[key]]
    problems = [f"domain needs {key}: run `pulumi config set {key} <file>`" for key in missing]
    if parsed.get("tailnet") is False:
        problems.append(
            f"domain is {domain}, which needs the tailnet, but tailnet is false: run `pulumi config set tailnet true`"
        )
    if parsed.get("accessUrl"):
        problems.append("domain and accessUrl are both set, domain alone will do: run `pulumi config rm accessUrl`")
    if parsed.get("port") == 65535:
        problems.append("domain needs the port after `port`, which is 65535: run `pulumi config set port 7080`")
    return problems


def _kubernetes_problems(parsed: Mapping[str, object]) -> list[str]:
    """What a cluster needs beside it."""
    if "kubernetesKubeconfig" not in parsed:
        return []
    reached_by = ("kubernetesAgentUrl", "agentAddress")
    if not parsed["kubernetesKubeconfig"]:
        given = [key for key in reached_by if parsed.get(key)]
        fix = "run `pulumi config set kubernetesKubeconfig <file>`"
        return [f"{key} is set, but kubernetesKubeconfig is not: {fix}" for key in given]
    if all(key in parsed and not parsed[key] for key in reached_by):
        return [
            "kubernetesKubeconfig needs an address of this machine that the cluster's nodes reach: run "
            "`pulumi config set agentAddress <address>`"
        ]
    return []


def _parsed(key: Key, given: str | Encrypted[str] | None) -> object:
    """The value of `key`.

    Raises:
        ValueError: it has a problem; with the command that fixes it. What is encrypted is not in the message.
    """
    encrypted = isinstance(given, Encrypted)
    # Without the value it asks: a secret is for no command line.
    fix = f"run `pulumi config set {f'--secret {key.name}' if encrypted else f'{key.name} <value>'}`"
    if given is None:
        if key.encrypted == "always":
            return None
        raise ValueError(f"{key.name} is not set: {fix}")
    if key.encrypted == "always" and not encrypted:
        raise ValueError(f"{key.name} is stored in plain text: run `pulumi config set --secret {key.name}`")
    if key.encrypted == "never" and encrypted:
        raise ValueError(f"{key.name} is encrypted, but must be plain text: run `pulumi config set {key.name} <value>`")
    text = given.plain if isinstance(given, Encrypted) else given
    if text is None:
        return Encrypted()
    try:
        value = key.parse(text)
    except ValueError as error:
        found = "encrypted" if encrypted else json.dumps(text)
        raise ValueError(f"{key.name} is {found}, allowed is {error}: {fix}") from None
    return Encrypted(plain=value) if encrypted else value


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, KEYS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no setting {key}: {hint}run `pulumi config rm {key}`"
