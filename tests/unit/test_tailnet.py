"""What the program declares for the tailnet: Coder knows its address first, and is reachable only after its admin.

On the true `__main__.py`; what the job behind it decides is in test_serve.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pulumi.output import Unknown

from tests.certificates import self_signed
from tests.unit.program import LOCAL, TAILNET, WORLD, Declared, Registration, declare, is_secret

ON = {**LOCAL, "tailnet": "true"}
DOMAIN = "coder.example.com"
URL = "https://framework.example.ts.net"
REFUSED = {"problem": "this machine is logged out of its tailnet: run `sudo tailscale up`"}


@pytest.fixture(scope="module")
def pilot() -> Declared:
    return declare(ON)


def _coder(pilot: Declared) -> dict[str, str]:
    return dict(each.split("=", 1) for each in pilot.one("coder").inputs["envs"])


def _jobs(pilot: Declared) -> list[str]:
    """The arguments of the tailnet's invokes, in their order."""
    commands = [str(each["command"]) for each in pilot.invokes]
    return [command.split("stack.jobs.serve ")[1] for command in commands if "stack.jobs.serve" in command]


def _names(urn: str, registration: Registration) -> bool:
    return urn.endswith(f"{registration.type}::{registration.name}")


def test_coder_is_told_the_https_name_of_the_node(pilot: Declared) -> None:
    assert _coder(pilot)["CODER_ACCESS_URL"] == URL
    assert _coder(pilot)["CODER_SECURE_AUTH_COOKIE"] == "true"
    assert pilot.exports["url"] == URL


def test_nobody_can_come_in_before_there_is_an_admin(pilot: Declared) -> None:
    serve, admin = pilot.one("serve"), pilot.one("admin-account")
    assert any(_names(urn, admin) for urn in serve.request.dependencies)


def test_the_entries_belong_to_the_tailnet_component(pilot: Declared) -> None:
    (component,) = pilot.of("coder-pilot:tailnet:Tailnet")
    assert _names(pilot.one("serve").request.parent, component)


def test_the_entries_are_made_changed_and_taken_off_by_the_same_job(pilot: Declared) -> None:
    serve = pilot.one("serve").inputs
    assert serve["create"] == serve["update"]
    assert serve["create"].endswith("-m stack.jobs.serve")
    assert serve["delete"] == f"{serve['create']} remove"
    assert pilot.one("serve").request.deleteBeforeReplace


def test_the_settings_reach_the_job_and_its_looks_alike() -> None:
    settings = {"port": "7090", "tailnetName": "framework", "tailscaleSocket": "/run/t.sock"}
    expected = {"PORT": "7090", "MACHINE": "framework", "TAILSCALE_SOCKET": "/run/t.sock", "DOMAIN": ""}
    pilot = declare({**ON, **settings})
    assert pilot.one("serve").inputs["environment"] == {
        **expected, "ACCESS_URL": URL, "PULUMI_STACK": "test",
    }  # fmt: skip
    looks = [each["environment"] for each in pilot.invokes if "stack.jobs.serve" in each["command"]]
    assert looks == [expected, expected]


def test_a_renamed_node_changes_an_input_of_the_entries(pilot: Declared) -> None:
    renamed = declare(ON, tailnet={**TAILNET, "url": "https://box.example.ts.net"})
    assert renamed.one("serve").inputs != pilot.one("serve").inputs


def test_every_up_sets_the_entries_and_a_preview_only_looks(pilot: Declared) -> None:
    assert _jobs(pilot) == ["check --report", "apply --report"]
    assert _jobs(declare(ON, preview=True)) == ["check --report", "check --report"]


def test_an_address_of_the_owners_own_is_kept(pilot: Declared) -> None:
    own = declare({**ON, "accessUrl": "https://coder.example.com"})
    assert _coder(own)["CODER_ACCESS_URL"] == "https://coder.example.com"
    assert own.exports["url"] == "https://coder.example.com"
    assert own.one("serve").inputs["environment"]["ACCESS_URL"] == "https://coder.example.com"


def test_a_preview_where_the_tailnet_is_not_ready_warns_once_and_leaves_the_address_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warnings: list[Any] = []
    monkeypatch.setattr("pulumi.log.warn", lambda text, _: warnings.append(text))
    pilot = declare(ON, tailnet=REFUSED, preview=True)
    assert isinstance(pilot.one("serve").inputs["environment"]["ACCESS_URL"], Unknown)
    assert len(warnings) == 1
    assert REFUSED["problem"] in warnings[0]


def test_an_up_where_the_tailnet_is_not_ready_ends_with_the_problem_alone() -> None:
    with pytest.raises(Exception, match=r"^tailnet: this machine is logged out"):
        declare(ON, tailnet=REFUSED)


@pytest.mark.parametrize("own", ["", "https://coder.example.com"])
def test_an_up_where_the_tailnet_is_not_ready_touches_nothing(own: str) -> None:
    begun = Declared()
    with pytest.raises(Exception, match=r"^tailnet: this machine is logged out"):
        declare({**ON, "accessUrl": own}, tailnet=REFUSED, world={**WORLD, "to_do": True}, into=begun)
    assert not [each for each in begun.invokes if "world ensure" in each["command"]]
    assert {each.type for each in begun.resources if each.request.custom} <= {
        "random:index/randomPassword:RandomPassword"
    }


@pytest.mark.parametrize(("missing", "warned"), [([], False), (["https=443"], True)])
def test_a_preview_says_which_entry_is_missing(
    monkeypatch: pytest.MonkeyPatch, missing: list[str], warned: bool
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", lambda text, _: warnings.append(text))
    declare(ON, tailnet={**TAILNET, "missing": missing}, preview=True)
    assert warnings == (["The tailnet does not have https=443; `pulumi up --stack test` sets it."] if warned else [])


def test_the_address_is_no_secret(pilot: Declared) -> None:
    assert not is_secret(pilot.exports["url"])


def test_with_the_tailnet_off_nothing_of_it_runs() -> None:
    off = declare(LOCAL)
    assert _jobs(off) == []
    assert _coder(off)["CODER_ACCESS_URL"] == "http://127.0.0.1:7080"


def _with_domain(folder: Path, name: str = "own", *, preview: bool = False) -> Declared:
    certificate, key = self_signed(folder, name, DOMAIN, f"*.{DOMAIN}")
    settings = {"domain": DOMAIN, "tlsCertificate": certificate, "tlsKey": key}
    return declare({**ON, **settings}, tailnet={**TAILNET, "url": f"https://{DOMAIN}"}, preview=preview)


def test_with_a_domain_of_ones_own_coder_ends_tls_on_loopback_and_every_app_has_a_name_below_it(tmp_path: Path) -> None:
    pilot = _with_domain(tmp_path)
    environment, coder = _coder(pilot), pilot.one("coder")
    assert environment["CODER_ACCESS_URL"] == pilot.exports["url"] == f"https://{DOMAIN}"
    assert environment["CODER_WILDCARD_ACCESS_URL"] == f"*.{DOMAIN}"
    assert environment["CODER_TLS_ADDRESS"] == "0.0.0.0:7081"
    ports = [(each["ip"], each["external"], each["internal"]) for each in coder.inputs["ports"]]
    assert ports == [("127.0.0.1", 7080, 7080), ("127.0.0.1", 7081, 7081)]
    asked = [each["environment"]["DOMAIN"] for each in pilot.invokes if "stack.jobs.serve" in each["command"]]
    assert asked == [DOMAIN, DOMAIN]


def test_the_certificates_key_is_a_secret_and_another_certificate_another_container(tmp_path: Path) -> None:
    first, renewed = (_with_domain(tmp_path, name).one("coder") for name in ("first", "renewed"))
    files = {each["file"]: each["content"] for each in first.inputs["uploads"]}
    environment = dict(each.split("=", 1) for each in first.inputs["envs"])
    assert files[environment["CODER_TLS_CERT_FILE"]] == (tmp_path / "first.crt").read_text()
    assert files[environment["CODER_TLS_KEY_FILE"]] == (tmp_path / "first.key").read_text()
    assert any(path.startswith("uploads") for path in first.secrets)
    assert first.inputs["uploads"] != renewed.inputs["uploads"]


def test_a_certificate_that_is_not_good_ends_an_up_before_anything_and_warns_in_a_preview(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = self_signed(tmp_path, "short", DOMAIN)
    settings = {**ON, "domain": DOMAIN, "tlsCertificate": certificate, "tlsKey": key}
    with pytest.raises(Exception, match=r"^domain: .*short\.crt is for coder\.example\.com, not for \*\."):
        declare(settings)
    warnings: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", lambda text, _: warnings.append(text))
    declare(settings, preview=True)
    assert [each for each in warnings if "`pulumi up --stack test` will stop here" in each]
