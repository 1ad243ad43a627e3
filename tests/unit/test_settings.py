"""Every setting is checked before anything is declared, and all problems are told at once with what mends them."""

from __future__ import annotations

import pytest

from stack import settings
from tests.unit.program import defaults


def _parse(**changes: str) -> settings.Settings:
    return settings.parse({**defaults(), **changes})


def test_the_defaults_of_the_project_are_good() -> None:
    parsed = _parse()
    assert parsed.name == "coder"
    assert parsed.port == 7080
    assert parsed.idle_ttl_ms == 2 * 3_600_000
    assert parsed.workspace_memory_mb == 4096
    assert parsed.access_url is None


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("idleTtl", "90m", "idle_ttl_ms", 90 * 60_000),
        ("idleTtl", "1h30m", "idle_ttl_ms", 90 * 60_000),
        ("idleBump", "1m", "idle_bump_ms", 60_000),
        ("keepAliveMax", "12h", "keep_alive_max_h", 12),
        ("workspaceMemory", "512MiB", "workspace_memory_mb", 512),
        ("workspaceMemory", "2 GiB", "workspace_memory_mb", 2048),
        ("workspaceImages", "a/b:1, c/d:2", "workspace_images", ("a/b:1", "c/d:2")),
        ("dataDir", "/srv/pilot", "data_dir", "/srv/pilot"),
        ("accessUrl", "https://coder.example.org", "access_url", "https://coder.example.org"),
        ("coderImage", "a/b@sha256:" + "0" * 64, "coder_image", "a/b@sha256:" + "0" * 64),
        ("purgeOnDestroy", "true", "purge_on_destroy", True),
        ("serviceEnvironment", '{"A": "b"}', "service_environment", {"A": "b"}),
        ("tailnetName", "framework", "tailnet_name", "framework"),
    ],
)
def test_a_good_value_is_taken(key: str, value: str, field: str, expected: object) -> None:
    assert getattr(_parse(**{key: value}), field) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "Coder"),
        ("name", "a"),
        ("port", "0"),
        ("port", "65536"),
        ("port", "http"),
        ("dataDir", ""),
        ("dataDir", "/"),
        ("accessUrl", "coder.example.org"),
        ("coderImage", "coder"),
        ("workspaceImages", ""),
        ("workspaceImages", "a/b:1,"),
        ("dockerHost", "ssh://framework"),
        ("dockerHost", "tcp://127.0.0.1:2375"),
        ("dockerSocket", "docker.sock"),
        ("adminUsername", "the admin"),
        ("adminEmail", "admin"),
        ("idleTtl", "2"),
        ("idleTtl", "0h"),
        ("idleTtl", ""),
        ("idleBump", "1 day"),
        ("keepAliveMax", "90m"),
        ("workspaceMemory", "4"),
        ("workspaceMemory", "1MiB"),
        ("workspaceCpus", "0"),
        ("workspaceCpus", "1.5"),
        ("tailnet", "yes"),
        ("tailnetName", "framework.example.ts.net"),
        ("tailscaleSocket", "tailscaled.sock"),
        ("backupsKept", "0"),
        ("purgeOnDestroy", "1"),
        ("serviceEnvironment", "[]"),
        ("serviceEnvironment", '{"A B": "c"}'),
        ("serviceEnvironment", '{"A": 1}'),
        ("anthropicBaseUrl", "localhost:4000"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed_and_what_mends_it(key: str, value: str) -> None:
    with pytest.raises(settings.SettingsError) as refused:
        _parse(**{key: value})
    (line,) = str(refused.value).splitlines()[1:]
    assert f'{key} is "' in line
    assert "allowed is" in line
    assert f"`pulumi config set {key} <value>`" in line


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(settings.SettingsError) as refused:
        _parse(port="0", idleTtl="never", tailnet="maybe")
    assert len(str(refused.value).splitlines()) == 4


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(settings.SettingsError, match="idleTTL is no setting: did you mean idleTtl"):
        _parse(idleTTL="2h")


def test_a_missing_key_is_refused() -> None:
    values = defaults()
    del values["port"]
    with pytest.raises(settings.SettingsError, match="port is not set"):
        settings.parse(values)


@pytest.mark.parametrize(
    ("changes", "cap"),
    [({"workspaceMemory": "32GiB"}, "workspaceMemoryCap"), ({"workspaceCpus": "16"}, "workspaceCpusCap")],
)
def test_a_default_above_its_cap_is_refused(changes: dict[str, str], cap: str) -> None:
    with pytest.raises(settings.SettingsError, match=f"pulumi config set {cap}"):
        _parse(**changes)


def test_the_tailnets_https_port_is_refused_for_coder_only_where_the_tailnet_is_on() -> None:
    with pytest.raises(settings.SettingsError, match="pulumi config set port 7080"):
        _parse(port="443")
    assert _parse(port="443", tailnet="false").port == 443


def test_every_key_has_a_default_and_sets_a_documented_field() -> None:
    fields = {settings.field_of(key) for key in defaults()} | {"anthropic_api_key"}
    assert fields == set(settings.Settings.__dataclass_fields__)
