"""The account for every day: for every state that Coder can be in, the calls that bring it where it should be."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stack import account_check, settings
from stack.jobs import accounts, coder, coder_records, engine, member, pilot_file, postgres
from stack.jobs.accounts import User
from stack.jobs.pilot_file import Account
from tests.unit.program import LOCAL, defaults

PASSWORD = "the-password-of-the-state"
OTHER_PASSWORD = "one-from-the-dashboard"
EMAIL = "dev@framework.local"
ENVIRONMENT = {
    "CODER_URL": "http://127.0.0.1:7080",
    "CODER_TOKEN": "token-of-the-admin",
    "POSTGRES_CONTAINER": "coder-postgres",
    "ROLE": "coder",
    "DATABASE": "coder",
    "MEMBER_USERNAME": "dev",
    "MEMBER_NAME": "",
    "MEMBER_EMAIL": EMAIL,
    "MEMBER_PASSWORD": PASSWORD,
}
ADMIN = User(
    id="a-id", username="admin", email="admin@x.y", password_digest="", roles=(accounts.OWNER,), suspended=False
)
ANN = User(id="b-id", username="ann", email="ann@x.y", password_digest="", roles=(), suspended=False)


@dataclass
class FakeCoder:
    """The little of a Coder server that the job sees; `member` is the account, None for none."""

    member: User | None = None
    password: str = ""
    name: str = ""
    weak: str = ""
    calls: list[str] = field(default_factory=list)

    def users(self, *_: str) -> list[User]:
        return [ADMIN, ANN, *([self.member] if self.member else [])]

    def call(self, api: coder.Api, method: str, path: str, body: Any = None) -> object:
        what = path.removeprefix("/api/v2/users").removeprefix("/m-id")
        self.calls.append(f"{method} {what}")
        if what == "/validate-password":
            return {"valid": not self.weak, "details": self.weak}
        if what == "/login":
            if not self.member or self.member.suspended or body["password"] != self.password:
                raise coder.ApiError(401, "wrong password, or suspended")
            return {"session_token": "session"}
        if what == "/logout":
            assert api.token == "session"
            return None
        assert api.token == ENVIRONMENT["CODER_TOKEN"]
        if (method, what) == ("GET", "/me"):
            return {"organization_ids": ["o-id"]}
        if (method, what) == ("POST", ""):
            assert (body["organization_ids"], body["user_status"]) == (["o-id"], "active")
            self.member = User(
                id="m-id", username=body["username"], email=body["email"], password_digest="", roles=(),
                suspended=False,
            )  # fmt: skip
            self._set(body["password"])
            self.name = body["name"]
            return None
        assert self.member
        if (method, what) == ("GET", ""):
            return {"name": self.name}
        if what == "/password":
            self._set(body["password"])
        elif what == "/status/activate":
            self.member = dataclasses.replace(self.member, suspended=False)
        elif what == "/roles":
            self.member = dataclasses.replace(self.member, roles=tuple(body["roles"]))
        elif what == "/profile":
            self.name, self.member = body["name"], dataclasses.replace(self.member, username=body["username"])
        else:
            raise AssertionError(what)
        return None

    def _set(self, password: str) -> None:
        assert self.member
        self.password = password
        self.member = dataclasses.replace(self.member, password_digest=f"digest of {password}")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCoder:
    fake = FakeCoder()
    for name, value in {**ENVIRONMENT, "DATA_DIRECTORY": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(coder.Api, "call", lambda api, *rest: fake.call(api, *rest))
    monkeypatch.setattr(accounts, "users", fake.users)
    return fake


@pytest.fixture
def made(server: FakeCoder) -> FakeCoder:
    """A server on which the job ran."""
    member.main()
    server.calls.clear()
    return server


def test_a_server_without_the_account_gets_it_as_a_plain_member(
    server: FakeCoder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    member.main()
    assert server.calls == ["POST /validate-password", "GET /me", "POST "]
    assert (server.member and server.member.roles, server.password) == ((), PASSWORD)
    assert capsys.readouterr().out == "m-id\n"
    assert pilot_file.member(str(tmp_path)) == Account(
        id="m-id", username="dev", email=EMAIL, password_digest=f"digest of {PASSWORD}"
    )


def test_an_account_that_is_as_declared_is_left_as_it_is(made: FakeCoder) -> None:
    member.main()
    assert made.calls == ["POST /login", "POST /logout"]


def test_what_was_changed_in_the_dashboard_is_put_right(made: FakeCoder) -> None:
    assert made.member
    made._set(OTHER_PASSWORD)
    made.member = dataclasses.replace(made.member, suspended=True, roles=("owner",))
    member.main()
    assert (made.member.suspended, made.member.roles, made.password) == (False, (), PASSWORD)


def test_an_account_that_was_deleted_in_the_dashboard_is_made_anew(made: FakeCoder) -> None:
    made.member = None
    member.main()
    assert made.member == User(
        id="m-id", username="dev", email=EMAIL, password_digest=f"digest of {PASSWORD}", roles=(), suspended=False
    )


def notice(directory: Path) -> str:
    return (pilot_file.notice(str(directory), "member") or {"text": ""})["text"]


def test_another_account_that_is_there_is_taken_over_with_a_line_that_says_so(
    made: FakeCoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert notice(tmp_path) == ""
    recorded = dataclasses.replace(RECORDED, id="b-id", username="ann", email="ann@x.y")
    pilot_file.update(str(tmp_path), member=dataclasses.asdict(recorded))
    assert made.member
    made.member = dataclasses.replace(made.member, roles=("owner",))
    member.main()
    assert notice(tmp_path) == (
        "dev (dev@framework.local), who was in this Coder already, is the account for every day from now on in the "
        "place of ann (ann@x.y), who stays, with his workspaces; he signs in with the password of `make password`, and "
        "is owner no more"
    )
    pilot_file.update(str(tmp_path), member=None)
    member.main()
    assert "from now on; he signs in with the password of `make password`" in notice(tmp_path)
    told = pilot_file.notice(str(tmp_path), "member")
    member.main()
    assert pilot_file.notice(str(tmp_path), "member") == told


def test_a_setting_renames_and_a_name_from_the_dashboard_stays(
    made: FakeCoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.member
    made.member, made.name = dataclasses.replace(made.member, username="me-myself"), "Own"
    member.main()
    assert (made.member.username, made.name) == ("me-myself", "Own")
    monkeypatch.setenv("MEMBER_USERNAME", "ada")
    monkeypatch.setenv("MEMBER_NAME", "Ada Lovelace")
    member.main()
    assert (made.member.username, made.name) == ("ada", "Ada Lovelace")
    made.name = "Ada King"
    member.main()
    assert made.name == "Ada King"


def test_a_password_that_coder_calls_weak_is_refused_with_the_setting_and_without_the_value(server: FakeCoder) -> None:
    server.weak = "insecure password"
    with pytest.raises(engine.JobError, match=r"the password, insecure .* --secret password`") as refused:
        member.main()
    assert (PASSWORD in str(refused.value), server.member) == (False, None)


DEV = User(id="m-id", username="dev", email=EMAIL, password_digest="", roles=(), suspended=False)
RENAMED = dataclasses.replace(DEV, username="renamed")
RECORDED = Account(id="m-id", username="dev", email=EMAIL, password_digest="")


@pytest.mark.parametrize(
    ("account", "recorded", "username", "email", "told"),
    [
        # Nothing there, as on a new pilot, and on one that is older than the second account.
        (None, None, "dev", EMAIL, ""),
        (None, None, "ann", EMAIL, "username is ann, which another user of this Coder is called: run `pulumi config"),
        (None, None, "Ann", "new@x.y", "username is Ann, which another user"),
        (None, None, "dev", "Ann@x.y", "email is Ann@x.y, the address of another user of this Coder, ann: choose"),
        (None, None, "dev", "admin@x.y", "email is admin@x.y, the address of another user of this Coder, admin"),
        # Both name one account: it is meant.
        (None, None, "ann", "ann@x.y", ""),
        (DEV, None, "dev", EMAIL, ""),
        (DEV, RECORDED, "dev", EMAIL, ""),
        (DEV, RECORDED, "ada", EMAIL, ""),
        (DEV, RECORDED, "Dev", EMAIL, ""),
        (DEV, RECORDED, "ann", EMAIL, "username is ann, .* run `pulumi config set username dev`"),
        (RENAMED, RECORDED, "dev", EMAIL, ""),
        (RENAMED, RECORDED, "ada", EMAIL, ""),
        (DEV, RECORDED, "dev", "new@x.y", f"the address of dev is {EMAIL} .* run `pulumi config set email {EMAIL}`"),
        (DEV, RECORDED, "ann", "ann@x.y", ""),
        # Deleted in the dashboard: another address is no other account's.
        (None, RECORDED, "dev", "new@x.y", ""),
    ],
)
def test_what_belongs_to_somebody_else_is_refused_with_what_to_type(
    account: User | None, recorded: Account | None, username: str, email: str, told: str
) -> None:
    found = [ADMIN, ANN, *([account] if account else [])]
    said = member.refusal(found, recorded, username, email)
    if told:
        pytest.fail("accepted") if said is None else None
        with pytest.raises(engine.JobError, match=told):
            raise engine.JobError(said)
    else:
        assert said is None


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"status": "active", "roles": "", "digest": "digest"}, []),
        ({"status": "dormant", "roles": "", "digest": "digest"}, []),
        ({"status": "suspended", "roles": "", "digest": "digest"}, ["was suspended in Coder: it is activated"]),
        (
            {"status": "active", "roles": "owner,auditor", "digest": "digest"},
            ["was given a role in Coder (owner,auditor): a plain member again"],
        ),
        (
            {"status": "active", "roles": "", "digest": "other"},
            ["the password of dev@framework.local was changed in Coder: set back"],
        ),
        (None, ["is gone from Coder: it is made anew"]),
    ],
)
def test_an_up_sees_what_was_done_to_the_account_and_counts_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, row: dict[str, str] | None, told: list[str]
) -> None:
    for name, value in {**ENVIRONMENT, "DATA_DIRECTORY": str(tmp_path), "TOKEN_PREFIX": "coder-pilot-"}.items():
        monkeypatch.setenv(name, value)
    recorded = dataclasses.replace(RECORDED, password_digest="digest")
    pilot_file.update(str(tmp_path), member=dataclasses.asdict(recorded), generations={"member": 4})
    monkeypatch.setattr(postgres, "query", lambda *_: [f"member {json.dumps(row)}"] if row else [])
    found = coder_records.look()
    assert found.generations["member"] == (5 if told else 4)
    assert [each for each, wanted in zip(found.differences, told, strict=True) if wanted not in each] == []
    # An up from before there were two accounts.
    pilot_file.update(str(tmp_path), member=None)
    assert coder_records.look().differences == []


def test_a_keeper_s_token_that_is_gone_is_told_unless_there_never_was_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {**ENVIRONMENT, "DATA_DIRECTORY": str(tmp_path), "TOKEN_PREFIX": "coder-pilot-"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(postgres, "query", lambda *_: [])
    assert coder_records.look().differences == []
    pilot_file.update(str(tmp_path), keeper_token_generation=3)
    assert coder_records.look().differences == [
        "the keeper's token is gone from Coder, or expires soon: it gets a new one"
    ]
    monkeypatch.setattr(postgres, "query", lambda *_: ["keeper-token"])
    assert coder_records.look().differences == []


def test_users_are_read_with_whatever_their_addresses_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        "a|admin|d1|owner|active|admin@x.y",
        "b|bob|d2||suspended|b|ob@x.y",
        "c|c|d3|auditor,user-admin|dormant|c@x",
    ]
    monkeypatch.setattr(engine, "docker", lambda *_, **__: "\n".join(rows))
    found = accounts.users("postgres", "coder", "coder")
    assert [(each.username, each.roles, each.suspended, each.email) for each in found] == [
        ("admin", ("owner",), False, "admin@x.y"), ("bob", (), True, "b|ob@x.y"),
        ("c", ("auditor", "user-admin"), False, "c@x"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ('{"valid": false, "details": "insecure password"}', True),
        ('{"valid": true, "details": ""}', False),
        ("404 page not found", False),
    ],
)
def test_a_weak_password_is_refused_before_anything_is_declared_where_coder_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, refused: bool
) -> None:
    asked: list[tuple[tuple[str, ...], str | None]] = []

    def docker(*words: str, stdin: str | None = None, **_: object) -> str:
        asked.append((words, stdin))
        return answer

    monkeypatch.setattr(engine, "docker", docker)
    monkeypatch.setattr(accounts, "users", lambda *_: [])
    weak = {"password": settings.Encrypted(plain="password1")}
    config = settings.parse({**defaults(), **LOCAL, "dataDir": str(tmp_path), **weak}, tmp_path)
    told = "Coder does not take the password, insecure password: run `pulumi config set --secret password`"
    assert account_check.refusal(config) == (told if refused else None)
    ((words, stdin),) = asked
    assert words[:3] == ("exec", "--interactive", "coder-server")
    assert "password1" not in " ".join(words)
    assert stdin == '{"password": "password1"}'
