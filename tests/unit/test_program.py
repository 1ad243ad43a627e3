"""What the program declares: exposure, secrets, names and the house rules of containers, on the true `__main__.py`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from stack.keeper import BUNDLE
from tests.unit.program import (
    ALIVE,
    CHECKOUT,
    KEEPERS_TOKEN,
    LOCAL,
    TOKEN,
    WORLD,
    Declared,
    Registration,
    declare,
    is_secret,
)

DECLARATION_S_MAX = 1.5
CONTAINER = "docker:index/container:Container"
NETWORK = "docker:index/network:Network"
COMMAND = "command:local:Command"
TEMPLATE = "coderd:index/template:Template"

# Fields of `coderd_template` that a server without a licence refuses.
LICENSED = {
    "acl", "autoStopRequirement", "autoStartPermittedDaysOfWeeks", "allowUserAutoStart", "allowUserAutoStop",
    "failureTtlMs", "timeTilDormantMs", "timeTilDormantAutodeleteMs", "requireActiveVersion", "maxPortShareLevel",
}  # fmt: skip


@pytest.fixture(scope="module")
def pilot() -> Declared:
    return declare(LOCAL)


def _environment(container: Registration) -> dict[str, str]:
    return dict(each.split("=", 1) for each in container.inputs["envs"])


def _version(declared: Declared) -> dict[str, Any]:
    (template,) = declared.of(TEMPLATE)
    (version,) = template.inputs["versions"]
    found: dict[str, Any] = version
    return found


def test_only_coder_is_published_and_only_on_loopback(pilot: Declared) -> None:
    published = {each.name: each.inputs.get("ports", []) for each in pilot.of(CONTAINER)}
    assert published["postgres"] == []
    (port,) = published["coder"]
    assert (port["ip"], port["external"], port["internal"]) == ("127.0.0.1", 7080, 7080)


def test_coder_listens_inside_on_the_port_of_its_address_and_workspaces_and_the_health_check_know_it() -> None:
    other = declare({**LOCAL, "port": "7081"})
    coder = other.one("coder")
    (port,) = coder.inputs["ports"]
    assert (port["external"], port["internal"]) == (7081, 7081)
    assert _environment(coder)["CODER_HTTP_ADDRESS"] == "0.0.0.0:7081"
    assert "http://127.0.0.1:7081/healthz" in coder.inputs["healthcheck"]["tests"][1]
    variables = {each["name"]: each["value"] for each in _version(other)["tfVars"]}
    assert variables["agent_url"] == "http://coder:7081"


def test_postgres_is_on_the_internal_control_network_alone(pilot: Declared) -> None:
    assert [each["name"] for each in pilot.one("postgres").inputs["networksAdvanced"]] == ["coder-control"]
    assert pilot.one("control").inputs["internal"] is True
    assert pilot.one("workspaces").inputs.get("internal", False) is False


def test_coder_is_on_both_networks_under_the_name_that_workspaces_use(pilot: Declared) -> None:
    networks = {each["name"]: each.get("aliases") for each in pilot.one("coder").inputs["networksAdvanced"]}
    assert networks == {"coder-control": None, "coder-workspaces": ["coder"]}
    variables = {each["name"]: each["value"] for each in _version(pilot)["tfVars"]}
    assert variables["agent_url"] == "http://coder:7080"
    assert variables["workspace_network"] == "coder-workspaces"


def test_every_docker_name_derives_from_the_setting_name() -> None:
    other = declare({**LOCAL, "name": "second", "port": "7081"})
    for each in other.resources:
        if each.type.startswith("docker:index/") and "emoteImage" not in each.type:
            assert each.inputs["name"].startswith("second-"), each.name
            assert {"label": "coder-pilot.stack", "value": "second"} in each.inputs["labels"], each.name


def test_every_place_that_carries_a_secret_is_marked(pilot: Declared) -> None:
    values = ("password-of-postgres-password", "password-of-admin-password", TOKEN, KEEPERS_TOKEN)
    for each in pilot.resources:
        for key, value in each.inputs.items():
            if any(secret in json.dumps(value) for secret in values):
                assert any(path == key or path.startswith(f"{key}.") for path in each.secrets), (each.name, key)


def test_a_job_passes_secrets_by_environment_and_keeps_its_output(pilot: Declared) -> None:
    for each in pilot.of(COMMAND):
        assert "password-of" not in json.dumps([each.inputs.get(key) for key in ("create", "update", "delete")])
        assert set(each.request.additionalSecretOutputs) >= {"stdout", "stderr"}, each.name
        # What the last job says on its standard error is for the person who ends the pilot.
        assert each.inputs["logging"] == ("stderr" if each.name == "retire" else "none"), each.name
        assert each.inputs["update"], each.name


def test_no_trigger_holds_a_containers_id(pilot: Declared) -> None:
    ids = {f"{each.name}-id" for each in pilot.of(CONTAINER)}
    for each in pilot.of(COMMAND):
        assert not each.inputs.get("triggers"), each.name
        assert not ids & set(map(str, each.inputs["environment"].values())), each.name


def test_no_licensed_field_of_the_template_is_set(pilot: Declared) -> None:
    (template,) = pilot.of(TEMPLATE)
    assert not LICENSED & {key for key, value in template.inputs.items() if value is not None}


def test_the_template_survives_destroy_and_has_the_times_of_the_settings(pilot: Declared) -> None:
    (template,) = pilot.of(TEMPLATE)
    assert template.request.retainOnDelete
    assert (template.inputs["defaultTtlMs"], template.inputs["activityBumpMs"]) == (7_200_000, 3_600_000)


def test_containers_follow_the_house_rules(pilot: Declared) -> None:
    for each in pilot.of(CONTAINER):
        inputs = each.inputs
        assert inputs["memory"] == inputs["memorySwap"] > 0, each.name
        assert inputs["securityOpts"] == ["no-new-privileges:true"], each.name
        assert inputs["logDriver"] == "json-file", each.name
        assert set(inputs["logOpts"]) == {"max-size", "max-file"}, each.name
        assert inputs["removeVolumes"] is False, each.name
        assert inputs["restart"] == "unless-stopped", each.name
        assert inputs["networkMode"], each.name
        assert not inputs.get("privileged"), each.name
        assert each.request.deleteBeforeReplace, each.name
        assert "healthcheck" in each.request.replaceOnChanges, each.name
    grace = {each.name: each.inputs["destroyGraceSeconds"] for each in pilot.of(CONTAINER)}
    assert grace == {"postgres": 60, "coder": 30, "keeper": 10}


def test_the_health_of_postgres_is_asked_by_tcp(pilot: Declared) -> None:
    assert "--host 127.0.0.1" in pilot.one("postgres").inputs["healthcheck"]["tests"][1]


def test_the_keeper_is_reached_by_nobody_and_writes_as_the_owner_of_the_data(pilot: Declared) -> None:
    keeper = pilot.one("keeper")
    assert [each["name"] for each in keeper.inputs["networksAdvanced"]] == ["coder-control"]
    assert not keeper.inputs.get("ports")
    # The data directory is not there yet: it will be whose `up` is.
    assert keeper.inputs["user"] == f"{os.getuid()}:{os.getgid()}"
    assert {each["source"] for each in keeper.inputs["mounts"]} == {"/srv/pilot", "/dev/null"}
    assert _environment(keeper)["CODER_TOKEN"] == KEEPERS_TOKEN
    # Postgres's image declares these as volumes.
    assert {"/var/lib/postgresql", "/var/lib/postgresql/data"} == keeper.inputs["tmpfs"].keys()


def test_the_keeper_is_the_first_to_go_when_the_pilot_is_retired(pilot: Declared) -> None:
    retire = [each for each in pilot.one("keeper").request.dependencies if each.endswith("::retire")]
    assert len(retire) == 1


def test_another_postgres_or_another_program_makes_another_keeper() -> None:
    def inputs(image: str) -> object:
        return declare({**LOCAL, "postgresImage": image}).one("keeper-image").inputs["build"]["buildArgs"]["BASE"]

    assert inputs("example/postgres:17") == "example/postgres:17"
    triggers = declare(dict(LOCAL)).one("keeper-image").inputs["triggers"]
    assert triggers["inputs"] == hashlib.sha256(f"{BUNDLE.digest()}\0sha256:postgres-image".encode()).hexdigest()


def test_postgres_data_is_a_bind_mount_at_its_volume(pilot: Declared) -> None:
    (mount,) = pilot.one("postgres").inputs["mounts"]
    assert (mount["type"], mount["source"]) == ("bind", "/srv/pilot/postgres")
    assert mount["target"] == _environment(pilot.one("postgres"))["PGDATA"]


def test_nothing_leaves_the_box_and_no_stranger_signs_in(pilot: Declared) -> None:
    environment = _environment(pilot.one("coder"))
    assert environment["CODER_TELEMETRY_ENABLE"] == "false"
    assert environment["CODER_UPDATE_CHECK"] == "false"
    assert environment["CODER_OAUTH2_GITHUB_DEFAULT_PROVIDER_ENABLE"] == "false"
    assert environment["CODER_DERP_SERVER_STUN_ADDRESSES"] == "disable"


@pytest.mark.parametrize(("url", "secure"), [("http://127.0.0.1:7080", "false"), ("https://c.example", "true")])
def test_cookies_are_secure_exactly_when_the_access_url_is_https(url: str, secure: str) -> None:
    environment = _environment(declare({**LOCAL, "accessUrl": url}).one("coder"))
    assert environment["CODER_SECURE_AUTH_COOKIE"] == secure
    assert environment["CODER_ACCESS_URL"] == url


@pytest.mark.parametrize(("url", "own"), [("", True), ("https://c.example", False)])
def test_coder_and_the_template_agree_on_whether_apps_have_origins_of_their_own(url: str, own: bool) -> None:
    declared = declare({**LOCAL, "accessUrl": url})
    environment = _environment(declared.one("coder"))
    assert environment.get("CODER_WILDCARD_ACCESS_URL") == ("*.localhost:7080" if own else None)
    assert environment.get("CODER_DISABLE_PATH_APPS") == ("true" if own else None)
    variables = {each["name"]: each["value"] for each in _version(declared)["tfVars"]}
    assert variables["apps_domain"] == ("localhost:7080" if own else "")


def test_a_password_is_percent_encoded_in_the_database_url(pilot: Declared) -> None:
    url = _environment(pilot.one("coder"))["CODER_PG_CONNECTION_URL"]
    assert url == "postgres://coder:password-of-postgres-password@postgres:5432/coder?sslmode=disable"
    assert "envs" in pilot.one("coder").secrets


def test_every_argument_of_a_password_is_written_out(pilot: Declared) -> None:
    expected = {
        "length", "lower", "minLower", "upper", "minUpper", "numeric", "minNumeric", "special", "minSpecial",
        "overrideSpecial", "keepers",
    }  # fmt: skip
    for each in pilot.of("random:index/randomPassword:RandomPassword"):
        assert set(each.inputs) >= expected, each.name


def test_the_outputs_are_those_that_are_promised_and_the_password_is_secret(pilot: Declared) -> None:
    assert set(pilot.exports) == {
        *("url", "username", "email", "password", "adminUsername", "adminEmail", "adminPassword", "apiToken"),
        *("templateVersion", "workspaceNetwork", "next"),
    }
    secret = {key for key, value in pilot.exports.items() if is_secret(value)}
    assert secret == {"password", "adminPassword", "apiToken"}
    assert pilot.exports["url"] == "http://127.0.0.1:7080"


@pytest.mark.parametrize(
    ("key", "value"),
    [("anthropicApiKey", "s3cret"), ("claudeCodeOauthToken", "s3cret"), ("serviceEnvironment", '{"TOKEN": "s3cret"}')],
)
def test_a_secret_of_workspaces_is_in_no_variable_of_the_template_and_encrypted_elsewhere(key: str, value: str) -> None:
    without, secret = declare(LOCAL), declare({**LOCAL, key: value}, secrets=(key,))
    assert _version(secret)["tfVars"] == _version(without)["tfVars"]
    assert _version(secret)["message"] == _version(without)["message"]
    (job,) = [each for each in secret.of(COMMAND) if each.name == "workspace-secrets"]
    assert "s3cret" in job.inputs["environment"]["SECRETS"]
    assert "environment" in job.secrets
    assert [each.name for each in secret.resources if "s3cret" in json.dumps(each.inputs)] == ["workspace-secrets"]
    assert "s3cret" not in json.dumps(secret.exports)


def test_an_api_key_in_plain_text_is_refused() -> None:
    with pytest.raises(Exception, match="pulumi config set --secret anthropicApiKey"):
        declare({**LOCAL, "anthropicApiKey": "sk-plain"})


def test_with_the_tailnet_off_nothing_of_it_is_declared(pilot: Declared) -> None:
    assert not [each for each in pilot.resources if "tailnet" in each.type]


@pytest.mark.parametrize(
    ("preview", "to_do", "asked"),
    [
        (True, True, {"alive look", "workspace_images look", "world look"}),
        (False, True, {"alive ensure", "workspace_images tend", "world look", "world ensure"}),
        (False, False, {"alive ensure", "workspace_images tend", "world look"}),
    ],
)
def test_a_preview_only_looks_and_an_up_ensures(preview: bool, to_do: bool, asked: set[str]) -> None:
    invokes = declare(LOCAL, world={**WORLD, "to_do": to_do}, preview=preview).invokes
    assert {each["command"].partition("stack.jobs.")[2] for each in invokes} == asked


def test_an_up_that_cannot_reach_coder_ends_with_the_problem_alone() -> None:
    problem = "the container coder-server is gone: run `make up STACK=test`"
    with pytest.raises(Exception, match=problem):
        declare(LOCAL, alive={**ALIVE, "answers": False, "problem": problem})


def test_an_up_on_a_machine_without_the_engines_socket_touches_nothing() -> None:
    begun = Declared()
    with pytest.raises(Exception, match="pulumi config set dockerSocket <path>"):
        declare({**LOCAL, "dockerSocket": "/nowhere"}, into=begun)
    assert [each for each in begun.resources if each.request.custom] == []


def test_the_engine_knows_of_nothing_of_coders_that_depends_on_a_container(pilot: Declared) -> None:
    """Else it asks the coderd provider for a diff before it replaces a container or network whose Coder is down."""
    for name in ("admin-account", "member-account", "coderd", "template", "template-record"):
        request = pilot.one(name).request
        properties = [urn for each in request.propertyDependencies.values() for urn in each.urns]
        assert not [urn for urn in (*request.dependencies, *properties) if CONTAINER in urn or NETWORK in urn], name


def test_the_retirement_is_the_first_to_go_and_does_not_wait_for_the_template(pilot: Declared) -> None:
    retire = pilot.one("retire")
    waited_for = {urn.rsplit("::", 1)[1] for urn in retire.request.dependencies}
    assert waited_for >= {
        "coder",
        "postgres",
        "control",
        "workspaces",
        "admin-account",
        "member-account",
        "data-directory",
    }
    # `make down` drops these from the state where Coder cannot come back, and can only drop what nobody needs.
    assert not waited_for & {"template", "coderd", "template-record"}
    assert retire.inputs["delete"].endswith("stack.jobs.retire")
    assert "environment" in retire.secrets


def test_coder_is_replaced_only_after_the_guard_saw_the_image(pilot: Declared) -> None:
    waited_for = {urn.rsplit("::", 1)[1] for urn in pilot.one("coder").request.dependencies}
    assert "upgrade-guard" in waited_for
    assert pilot.one("upgrade-guard").inputs["environment"]["CODER_IMAGE"] == "sha256:coder-image"


@pytest.mark.parametrize("purge", ["true", "false"])
def test_purge_reaches_the_state_exactly_as_it_is_set(purge: str) -> None:
    declared = declare({**LOCAL, "purgeOnDestroy": purge})
    found = {declared.one(name).inputs["environment"]["PURGE"] for name in ("retire", "data-directory")}
    assert found == {purge}
    asked = [each for each in declared.invokes if each["command"].endswith("retire list")]
    assert len(asked) == (1 if purge == "true" else 0)


def test_importing_and_declaring_the_program_is_quick() -> None:
    """In a new process, for the import is the larger part; processor seconds, for others may be at work."""
    code = (
        "import time; began = time.process_time()\n"
        "from tests.unit.program import LOCAL, declare\n"
        "declare(LOCAL)\n"
        "print(time.process_time() - began)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, timeout=60, capture_output=True)
    assert float(shown.stdout) <= DECLARATION_S_MAX
