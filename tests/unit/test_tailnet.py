"""What the program declares for the tailnet: Coder knows its address first, and is reachable only after its admin.

On the true `__main__.py`; what the job behind it decides is in test_serve.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.output import Unknown

from tests.unit.program import LOCAL, TAILNET, Declared, Registration, declare, is_secret

ON = {**LOCAL, "tailnet": "true"}
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
    expected = {"PORT": "7090", "MACHINE": "framework", "TAILSCALE_SOCKET": "/run/t.sock"}
    pilot = declare({**ON, **settings})
    assert pilot.one("serve").inputs["environment"] == {**expected, "ACCESS_URL": URL}
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
    monkeypatch.setattr("pulumi.log.warn", warnings.append)
    pilot = declare(ON, tailnet=REFUSED, preview=True)
    assert isinstance(pilot.one("serve").inputs["environment"]["ACCESS_URL"], Unknown)
    assert len(warnings) == 1
    assert REFUSED["problem"] in warnings[0]


def test_an_up_where_the_tailnet_is_not_ready_ends_with_the_problem_alone() -> None:
    with pytest.raises(Exception, match=r"^tailnet: this machine is logged out"):
        declare(ON, tailnet=REFUSED)


@pytest.mark.parametrize(("missing", "warned"), [([], False), (["https=443"], True)])
def test_a_preview_says_which_entry_is_missing(
    monkeypatch: pytest.MonkeyPatch, missing: list[str], warned: bool
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", warnings.append)
    declare(ON, tailnet={**TAILNET, "missing": missing}, preview=True)
    assert warnings == (["The tailnet does not have https=443; `pulumi up` sets it."] if warned else [])


def test_the_address_is_no_secret(pilot: Declared) -> None:
    assert not is_secret(pilot.exports["url"])


def test_with_the_tailnet_off_nothing_of_it_runs() -> None:
    off = declare(LOCAL)
    assert _jobs(off) == []
    assert _coder(off)["CODER_ACCESS_URL"] == "http://127.0.0.1:7080"
