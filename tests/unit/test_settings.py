"""Every setting is checked before anything is declared, and all problems are told at once with what fixes them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from stack import settings
from stack.settings import Encrypted
from tests.unit.program import defaults

FOLDER = Path("/checkout")
DOMAIN = {"tailnet": "true", "domain": "coder.example.com", "tlsCertificate": "/c.crt", "tlsKey": "/c.key"}


def _parse(**changes: str | Encrypted[str]) -> settings.Settings:
    return settings.parse({**defaults(), **changes}, FOLDER)


def _field(parsed: settings.Settings, key: str) -> object:
    group, field, _ = settings.KEYS[key]
    return getattr(getattr(parsed, group), field)


def test_the_defaults_of_the_project_are_good() -> None:
    parsed = _parse()
    assert parsed.site.name == "coder"
    assert parsed.site.port == 7080
    assert parsed.workspaces.idle_ttl_ms == 2 * 3_600_000
    assert parsed.workspaces.memory_mb == 4096
    assert parsed.control_plane.access_url is None


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("idleTtl", "90m", 90 * 60_000),
        ("idleTtl", "1h30m", 90 * 60_000),
        ("idleBump", "1m", 60_000),
        ("keepAliveMax", "12h", 12),
        ("workspaceMemory", "512MiB", 512),
        ("workspaceMemory", "2 GiB", 2048),
        ("workspaceImages", "a/b:1, c/d:2", ("a/b:1", "c/d:2")),
        ("workspaceImages", '["a/b:1", "c/d:2"]', ("a/b:1", "c/d:2")),
        ("dataDir", "/srv/pilot", "/srv/pilot"),
        ("dataDir", ".local/data", "/checkout/.local/data"),
        ("accessUrl", "https://coder.example.org", "https://coder.example.org"),
        ("accessUrl", "https://coder.example.org/", "https://coder.example.org"),
        ("accessUrl", "http://[fd00::1]:8080", "http://[fd00::1]:8080"),
        ("anthropicBaseUrl", "http://host.docker.internal:4000/v1", "http://host.docker.internal:4000/v1"),
        ("coderImage", "a/b@sha256:" + "0" * 64, "a/b@sha256:" + "0" * 64),
        ("purgeOnDestroy", "true", True),
        ("serviceEnvironment", '{"A": "b"}', {"A": "b"}),
        # What `pulumi config set --path` makes of numbers and booleans.
        ("serviceEnvironment", '{"A": 8080, "B": true}', {"A": "8080", "B": "true"}),
        ("tailnetName", "framework", "framework"),
        ("timezone", "Europe/Berlin", "Europe/Berlin"),
        ("timezone", "Etc/GMT+3", "Etc/GMT+3"),
        ("timezone", "", ""),
    ],
)
def test_a_good_value_is_taken(key: str, value: str, expected: object) -> None:
    assert _field(_parse(**{key: value}), key) == expected


@pytest.mark.parametrize(
    ("changes", "domain"),
    [
        ({"tailnet": "false"}, "localhost:7080"),
        ({"tailnet": "false", "port": "7090"}, "localhost:7090"),
        ({"tailnet": "false", "accessUrl": "http://localhost:7080"}, "localhost:7080"),
        ({"tailnet": "false", "accessUrl": "https://coder.example.org"}, ""),
        ({"tailnet": "true"}, ""),
        (DOMAIN, "coder.example.com"),
        # Other machines come by the tailnet's name, below which there is none.
        ({"tailnet": "true", "accessUrl": "http://127.0.0.1:7080"}, ""),
    ],
)
def test_apps_have_names_of_their_own_where_the_address_has_names_below_it(
    changes: dict[str, str], domain: str
) -> None:
    assert _parse(**changes).apps_domain == domain


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tailnet": "false"}, "which needs the tailnet, but tailnet is false: run `pulumi config set tailnet true`"),
        ({"tlsCertificate": ""}, "domain needs tlsCertificate: run `pulumi config set tlsCertificate <file>`"),
        ({"tlsKey": ""}, "domain needs tlsKey: run `pulumi config set tlsKey <file>`"),
        ({"accessUrl": "https://coder.example.com"}, "run `pulumi config rm accessUrl`"),
        ({"domain": "", "tlsKey": ""}, "tlsCertificate is set, but domain is not: run `pulumi config set domain"),
        ({"port": "65535"}, "the port after `port`"),
        ({"domain": "*.coder.example.com"}, "domain is"),
        ({"domain": "https://coder.example.com"}, "domain is"),
        ({"domain": "framework.example.ts.net"}, "domain is"),
        ({"domain": "Coder.example.com"}, "domain is"),
        ({"domain": "100.64.0.1"}, "domain is"),
        ({"domain": "coder"}, "domain is"),
        ({"tlsKey": "c.key"}, "tlsKey is"),
    ],
)
def test_a_domain_of_ones_own_is_refused_without_what_it_needs(changes: dict[str, str], told: str) -> None:
    with pytest.raises(settings.SettingsError) as refused:
        _parse(**{**DOMAIN, **changes})
    (line,) = refused.value.problems
    assert told in line


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
        ("dataDir", "./"),
        ("dataDir", "~/coder"),
        ("accessUrl", "coder.example.org"),
        ("accessUrl", "https://coder.example.org/path"),
        ("accessUrl", "http://127.0.0.1:7080//"),
        ("accessUrl", "https://me@coder.example.org"),
        ("coderImage", "coder"),
        ("workspaceImages", ""),
        ("workspaceImages", "a/b:1,"),
        ("workspaceImages", "a/b:1, a/b:1"),
        ("workspaceImages", "a/b:1, a-b:1"),
        ("workspaceImages", "[]"),
        ("workspaceImages", "[1]"),
        ("workspaceImages", "[a/b:1]"),
        ("workspaceImages", '{"a/b": "1"}'),
        ("dockerHost", "ssh://framework"),
        ("dockerHost", "tcp://127.0.0.1:2375"),
        ("dockerSocket", "docker.sock"),
        ("adminUsername", "the admin"),
        ("adminUsername", "new"),
        ("adminUsername", "me"),
        ("adminUsername", "Me"),
        ("adminUsername", "a" * 33),
        ("adminName", " Ada"),
        ("adminName", "Ada <ada@example.org>"),
        ("adminName", "a" * 129),
        ("adminEmail", "admin"),
        ("username", "the person"),
        ("username", "me"),
        ("fullName", "Ada <ada@example.org>"),
        ("email", "ada"),
        ("idleTtl", "2"),
        ("idleTtl", "0h"),
        ("idleTtl", ""),
        ("idleBump", "1 day"),
        ("keepAliveMax", "90m"),
        ("workspaceMemory", "4"),
        ("workspaceMemory", "1MiB"),
        ("workspaceMemory", "511MiB"),
        ("workspaceCpus", "0"),
        ("workspaceCpus", "1.5"),
        ("tailnet", "yes"),
        ("tailnetName", "framework.example.ts.net"),
        ("tailscaleSocket", "tailscaled.sock"),
        ("backupsKept", "0"),
        ("purgeOnDestroy", "1"),
        ("serviceEnvironment", "[]"),
        ("serviceEnvironment", '{"A B": "c"}'),
        ("serviceEnvironment", '{"A": ["b"]}'),
        ("serviceEnvironment", '{"A": null}'),
        ("serviceEnvironment", '{"A": "$HOME"}'),
        ("anthropicBaseUrl", "localhost:4000"),
        ("anthropicBaseUrl", "http://litellm/$HOME"),
        ("anthropicBaseUrl", "http://$HOST:4000"),
        # Of these a program would take the time for UTC.
        ("timezone", "Europe/Berlim"),
        ("timezone", "Europe"),
        ("timezone", "CEST"),
        ("timezone", "/etc/localtime"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed_and_what_mends_it(key: str, value: str) -> None:
    with pytest.raises(settings.SettingsError) as refused:
        _parse(**{key: value})
    (line,) = str(refused.value).splitlines()[1:]
    assert f"{key} is {json.dumps(value)}, " in line
    assert "allowed is" in line
    assert f"`pulumi config set {key} <value>`" in line


def test_a_variable_that_bash_keeps_read_only_is_refused_by_its_name() -> None:
    shown = subprocess.run(["bash", "-c", "readonly -p"], capture_output=True, text=True, check=True, timeout=60)
    kept = re.findall(r"^declare -\w+ (\w+)=", shown.stdout, re.MULTILINE)
    assert {"UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS"} <= set(kept)
    for name in kept:
        with pytest.raises(settings.SettingsError, match=f"other names than {name}, which bash keeps read-only: run"):
            _parse(serviceEnvironment=Encrypted(plain=json.dumps({"A": "s3cret", name: "s3cret"})))


@pytest.mark.parametrize(
    ("url", "port", "fix"),
    [
        ("http://127.0.0.1:7081", "7080", "http://127.0.0.1:7080"),
        ("http://localhost", "7080", "http://localhost:7080"),
        ("http://coder.localhost:1", "7080", "http://coder.localhost:7080"),
        ("https://localhost:7080", "7080", "http://localhost:7080"),
        ("http://[::1]:7080", "7080", "http://127.0.0.1:7080"),
        ("http://127.0.0.2:7080", "7080", "http://127.0.0.1:7080"),
        ("http://127.0.0.1:7080", "7080", None),
        ("http://coder.localhost:7080", "7080", None),
        ("http://localhost", "80", None),
        ("http://localhost.example.org:1", "7080", None),
        ("http://framework:7081", "7080", None),
    ],
)
def test_an_address_of_this_machine_alone_is_refused_where_coder_does_not_answer(
    url: str, port: str, fix: str | None
) -> None:
    if fix is None:
        assert _parse(accessUrl=url, port=port).control_plane.access_url == url
        return
    with pytest.raises(settings.SettingsError) as refused:
        _parse(accessUrl=url, port=port)
    (line,) = refused.value.problems
    assert f"accessUrl is {url}, " in line
    assert line.endswith(f": run `pulumi config set accessUrl {fix}`")


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(settings.SettingsError) as refused:
        _parse(port="0", idleTtl="never", tailnet="maybe")
    assert len(str(refused.value).splitlines()) == 4


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(settings.SettingsError, match="there is no setting idleTTL: did you mean idleTtl"):
        _parse(idleTTL="2h")


def test_a_missing_key_is_refused() -> None:
    values = defaults()
    del values["port"]
    with pytest.raises(settings.SettingsError, match="port is not set"):
        settings.parse(values, FOLDER)


@pytest.mark.parametrize(
    ("changes", "cap"),
    [({"workspaceMemory": "32GiB"}, "workspaceMemoryCap"), ({"workspaceCpus": "16"}, "workspaceCpusCap")],
)
def test_a_default_above_its_cap_is_refused(changes: dict[str, str], cap: str) -> None:
    with pytest.raises(settings.SettingsError, match=f"pulumi config set {cap}"):
        _parse(**changes)


def test_a_tilde_in_the_path_of_the_data_is_refused_with_what_to_write() -> None:
    with pytest.raises(settings.SettingsError, match=f"such as {Path.home()}/coder: nothing expands"):
        _parse(dataDir="~/coder")


def test_the_tailnets_https_port_is_refused_for_coder_only_where_the_tailnet_is_on() -> None:
    with pytest.raises(settings.SettingsError, match="pulumi config set port 7080"):
        _parse(port="443")
    assert _parse(port="443", tailnet="false").site.port == 443


def test_two_ways_for_claude_to_sign_in_are_refused_with_the_one_to_remove() -> None:
    with pytest.raises(settings.SettingsError, match="run `pulumi config rm anthropicApiKey`"):
        _parse(anthropicApiKey=Encrypted(), claudeCodeOauthToken=Encrypted())
    assert _parse(claudeCodeOauthToken=Encrypted()).workspaces.claude_code_oauth_token == Encrypted()


def test_every_key_but_one_that_is_always_encrypted_has_a_default() -> None:
    expected = {key for key, (_, _, entry) in settings.KEYS.items() if entry.encrypted != "always"}
    assert defaults().keys() == expected


def test_a_value_that_is_encrypted_stays_so_and_is_not_in_what_is_printed() -> None:
    environment, key = Encrypted(plain='{"TOKEN": "s3cret"}'), Encrypted(plain="s3cret")
    parsed = _parse(serviceEnvironment=environment, anthropicApiKey=key)
    assert parsed.workspaces.service_environment == Encrypted(plain={"TOKEN": "s3cret"})
    assert parsed.workspaces.anthropic_api_key == Encrypted(plain="s3cret")
    assert "s3cret" not in repr(parsed)


def test_without_the_passphrase_an_encrypted_value_is_unknown() -> None:
    parsed = _parse(serviceEnvironment=Encrypted(), anthropicApiKey=Encrypted())
    assert parsed.workspaces.service_environment == parsed.workspaces.anthropic_api_key == Encrypted()
    assert _parse(adminPassword=Encrypted()).admin.password == Encrypted()
    assert _parse().workspaces.anthropic_api_key is _parse().admin.password is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "port",
            Encrypted(plain="7080"),
            "port is encrypted, but must be plain text: run `pulumi config set port <value>`",
        ),
        ("anthropicApiKey", "s3cret", "is stored in plain text: run `pulumi config set --secret anthropicApiKey`"),
        (
            "serviceEnvironment",
            Encrypted(plain="s3cret"),
            "serviceEnvironment is encrypted, allowed is an object of strings",
        ),
        (
            "adminPassword",
            "a s3cret of mine",
            "is stored in plain text: run `pulumi config set --secret adminPassword`",
        ),
        *(
            ("adminPassword", Encrypted(plain=value), "adminPassword is encrypted, allowed is 8 to 64 printable char")
            for value in ("", "s3cret", "s3cret" * 11, "s3cret\ns3cret", '["s3cret", "s3cret"]')
        ),
        *(
            (key, Encrypted(plain=value), f"line breaks: run `pulumi config set --secret {key}`")
            for key in ("anthropicApiKey", "claudeCodeOauthToken")
            for value in ("", "s3cret\ns3cret", "s3cret s3cret")
        ),
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_told(key: str, value: str | Encrypted[str], said: str) -> None:
    with pytest.raises(settings.SettingsError) as refused:
        _parse(**{key: value})
    (line,) = refused.value.problems
    assert said in line
    assert "s3cret" not in line


@pytest.mark.parametrize(("key", "value"), [("username", "Admin"), ("email", "ADMIN@framework.local")])
def test_the_account_for_every_day_is_not_the_administrators(key: str, value: str) -> None:
    with pytest.raises(settings.SettingsError, match=f"`pulumi config set {key} <value>`") as refused:
        _parse(**{key: value})
    assert len(refused.value.problems) == 1
