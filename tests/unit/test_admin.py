"""What the program makes of the settings of both accounts; what the jobs do is in test_jobs.py and test_member.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pulumi
import pytest

from stack.jobs import engine, pilot_file
from tests.unit.program import LOCAL, Declared, declare

OWN = "a password of the owner's own"
ADA = "b-id|ada|x||active|ada@example.org"
DEV = "m-id|dev|x||active|dev@framework.local"
OWNER = "b-id|ada|x|owner|active|ada@example.org"
ACCOUNT = pilot_file.Account(id="an-id", username="admin", email="admin@framework.local", password_digest="0123")
MEMBER = pilot_file.Account(id="m-id", username="dev", email="dev@framework.local", password_digest="4567")
NOTICE = {"at": "2026-11-25T07:26:12+00:00", "text": "the password of admin was changed in Coder"}

Declare = Callable[..., Declared]


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declares the program with settings over a data directory whose accounts are recorded."""
    pilot_file.update(str(tmp_path), admin=dataclasses.asdict(ACCOUNT), member=dataclasses.asdict(MEMBER))
    # What the program sets is taken back.
    monkeypatch.setenv("DOCKER_HOST", "")
    return lambda *, preview=False, **config: declare({**LOCAL, "dataDir": str(tmp_path), **config}, preview=preview)


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize("there", ["", ADA])
def test_another_address_is_refused_before_anything_is_declared_with_what_puts_it_back(
    known: Declare, monkeypatch: pytest.MonkeyPatch, preview: bool, there: str
) -> None:
    monkeypatch.setattr(engine, "docker", lambda *_, **__: there)
    monkeypatch.setattr(pulumi.CustomResource, "__init__", lambda *_, **__: pytest.fail("something was declared"))
    with pytest.raises(Exception, match="run `pulumi config set adminEmail admin@"):
        known(adminEmail="ada@example.org", preview=preview)


def test_the_address_of_another_owner_makes_that_one_the_admin(known: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "docker", lambda *_, **__: OWNER)
    environment = known(adminEmail="ada@example.org").one("admin-account").inputs["environment"]
    assert environment["ADMIN_EMAIL"] == "ada@example.org"


def test_the_same_address_in_other_letters_is_no_other(known: Declare) -> None:
    assert known(adminEmail="Admin@Framework.local").one("admin-account")


@pytest.mark.parametrize("preview", [True, False])
def test_a_name_that_another_user_has_is_refused_before_anything_is_declared(
    known: Declare, monkeypatch: pytest.MonkeyPatch, preview: bool
) -> None:
    monkeypatch.setattr(engine, "docker", lambda *_, **__: ADA)
    monkeypatch.setattr(pulumi.CustomResource, "__init__", lambda *_, **__: pytest.fail("something was declared"))
    with pytest.raises(
        Exception, match=r"adminUsername is ada, .* run `pulumi config set adminUsername admin --stack test`"
    ):
        known(adminUsername="ada", preview=preview)
    monkeypatch.setattr(engine, "docker", lambda *_, **__: f"{ADA}\n{DEV}")
    with pytest.raises(Exception, match=r"username is ada, .* run `pulumi config set username dev --stack test`"):
        known(username="ada", preview=preview)


def _silent(*_: object, **__: object) -> str:
    raise engine.JobError("the engine does not answer")


@pytest.mark.parametrize("answer", [lambda *_, **__: "", _silent])
def test_a_name_that_is_free_or_that_nobody_can_tell_of_reaches_the_job(
    known: Declare, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., str]
) -> None:
    monkeypatch.setattr(engine, "docker", answer)
    environment = known(adminUsername="ada").one("admin-account").inputs["environment"]
    assert environment["ADMIN_USERNAME"] == "ada"
    environment = known(username="ada").one("member-account").inputs["environment"]
    assert environment["MEMBER_USERNAME"] == "ada"


def test_the_database_is_asked_only_where_the_name_was_changed(known: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "docker", lambda *_, **__: pytest.fail("the engine was asked"))
    assert known().one("admin-account")


@pytest.mark.parametrize(("setting", "account"), [("adminPassword", "admin"), ("password", "member")])
def test_a_password_of_ones_own_counts_and_leaves_the_generated_one_declared(setting: str, account: str) -> None:
    generated, own = declare(LOCAL), declare({**LOCAL, setting: OWN}, secrets=(setting,))
    for declared, password in ((generated, f"password-of-{account}-password"), (own, OWN)):
        job = declared.one(f"{account}-account")
        assert job.inputs["environment"][f"{account.upper()}_PASSWORD"] == password
        assert "environment" in job.secrets
        assert declared.exports[setting]["value"] == password
    assert own.one(f"{account}-password").inputs == generated.one(f"{account}-password").inputs


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (None, NOTICE, [NOTICE["text"]]),
        (NOTICE, NOTICE, []),
        (None, None, []),
        (NOTICE, {**NOTICE, "at": "later"}, [NOTICE["text"]]),
    ],
)
def test_what_the_job_had_to_tell_is_a_warning_once(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, str] | None, after: dict[str, str] | None, shown: list[str]
) -> None:
    warned: list[str] = []
    found = iter([before, after])
    monkeypatch.setattr(pilot_file, "notice", lambda _, of: next(found) if of == "admin" else None)
    monkeypatch.setattr(pulumi.log, "warn", lambda text, *_: warned.append(text))
    declare(LOCAL)
    assert warned == shown
