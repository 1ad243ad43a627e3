"""Jobs converge: for every state that the server can be in, exactly the calls that bring it where it should be."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from stack.jobs import (
    admin,
    alive,
    coder,
    data_directory,
    engine,
    pilot_file,
    postgres,
    record_template,
    role_password,
)

PASSWORD = "the-password-of-the-state"
OTHER_PASSWORD = "an-older-password"
ENVIRONMENT = {
    "CODER_URL": "http://127.0.0.1:7080",
    "CODER_CONTAINER": "coder-server",
    "POSTGRES_CONTAINER": "coder-postgres",
    "CONTAINER": "coder-postgres",
    "SOCKET_IN_CONTAINER": "/var/run/docker.sock",
    "DOCKER_HOST": "unix:///var/run/docker.sock",
    "ROLE": "coder",
    "DATABASE": "coder",
    "ROLE_PASSWORD": "it's a password",
    "TOKEN_PREFIX": "coder-pilot-",
    "TOKEN_GENERATION": "3",
    "TOKEN_LIFETIME_H": "8760",
    "ADMIN_USERNAME": "admin",
    "ADMIN_NAME": "",
    "ADMIN_EMAIL": "admin@framework.local",
    "ADMIN_PASSWORD": PASSWORD,
}

FIRST = ("GET", "/api/v2/users/first")
CREATE = ("POST", "/api/v2/users/first")
STRONG = ("POST", "/api/v2/users/validate-password")
LOGIN = ("POST", "/api/v2/users/login")
SHOW = ("GET", "/api/v2/users/an-id")
RENAME = ("PUT", "/api/v2/users/an-id/profile")
TOKENS = ("GET", "/api/v2/users/me/keys/tokens?include_expired=true")
TOKENS_OF_BEFORE = ("GET", "/api/v2/users/id-of-before/keys/tokens?include_expired=true")
MINT = ("POST", "/api/v2/users/me/keys/tokens")
CHECK = ("GET", "/api/v2/users/me")
LOGOUT = ("POST", "/api/v2/users/logout")


@dataclass
class FakeCoder:
    """The little of a Coder server that the jobs see; its tokens are by id."""

    password: str | None = None
    identifier: str = "an-id"
    username: str = "admin"
    name: str = "Ada Lovelace"
    email: str = "admin@framework.local"
    tokens: dict[str, str] = field(default_factory=dict)
    tokens_of_before: dict[str, str] = field(default_factory=dict)
    other_owners: tuple[str, ...] = ()
    taken: str = ""
    weak: str = ""
    intruded: bool = False
    minted: bool = True
    calls: list[tuple[str, str]] = field(default_factory=list)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    stdin: list[str] = field(default_factory=list)

    def call(self, api: coder.Api, method: str, path: str, body: Any = None) -> object:
        self.calls.append((method, path))
        if (method, path) == FIRST and self.password is None:
            raise coder.ApiError(404, "no user")
        if (method, path) == CREATE:
            self.password = body["password"]
        if (method, path) == STRONG:
            return {"valid": not self.weak, "details": self.weak}
        if (method, path) == SHOW:
            return {"name": self.name}
        if (method, path) == RENAME:
            if body["username"] == self.taken:
                raise coder.ApiError(409, "A user with this username already exists.")
            self.username, self.name = body["username"], body["name"]
        if (method, path) == LOGIN:
            if (body["email"], body["password"]) != (self.email, self.password):
                raise coder.ApiError(401, "wrong password")
            return {"session_token": "session"}
        if (method, path) == TOKENS:
            return [{"id": key, "token_name": name} for key, name in self.tokens.items()]
        if (method, path) == TOKENS_OF_BEFORE:
            return [{"id": key, "token_name": name} for key, name in self.tokens_of_before.items()]
        if method == "DELETE" and path.startswith("/api/v2/users/id-of-before/"):
            del self.tokens_of_before[path.rsplit("/", 1)[1]]
            return None
        if method == "DELETE":
            del self.tokens[path.rsplit("/", 1)[1]]
        if (method, path) == MINT:
            if body["token_name"] in self.tokens.values():
                raise coder.ApiError(409, "name taken")
            self.tokens["new"] = body["token_name"]
            return {"key": "new-secret"} if self.minted else {}
        if (method, path) == CHECK and api.token not in ("new-secret", "session"):
            raise coder.ApiError(401, "unknown token")
        return None

    def docker(self, *arguments: str, stdin: str | None = None, timeout_s: float = 60) -> str:
        self.commands.append(arguments)
        self.stdin.append(stdin or "")
        if "reset-password" in arguments:
            assert arguments[-1] == self.username
            self.password = (stdin or "").splitlines()[0]
        if "inspect" in arguments:
            state = {"Running": True, "StartedAt": "2026-11-25T07:26:12.633156362Z"}
            return json.dumps([{"State": state, "RestartCount": 0}])
        if "created_at >" in (stdin or ""):
            return "1" if self.intruded else ""
        own = f"{self.identifier}|{self.username}|digest of {self.password}|owner|active|{self.email}"
        return "\n".join([own, *self.other_owners]) if "psql" in arguments else ""

    def known(self, directory: Path, username: str = "admin") -> None:
        """Record the account as the last job would have."""
        account = pilot_file.Account(
            id=self.identifier, username=username, email=self.email, password_digest=f"digest of {self.password}"
        )
        pilot_file.update(str(directory), admin=dataclasses.asdict(account))

    @property
    def resets(self) -> list[str]:
        """The names of the accounts whose passwords were reset."""
        return [command[-1] for command in self.commands if "reset-password" in command]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCoder:
    fake = FakeCoder()
    for name, value in {**ENVIRONMENT, "DATA_DIRECTORY": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(coder.Api, "call", lambda api, *rest: fake.call(api, *rest))
    monkeypatch.setattr(engine, "docker", fake.docker)
    return fake


def test_a_server_without_users_gets_the_admin_and_a_token(
    server: FakeCoder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    admin.main()
    assert server.calls == [FIRST, STRONG, CREATE, LOGIN, TOKENS, MINT, CHECK, LOGOUT]
    assert server.resets == []
    assert capsys.readouterr().out == "new-secret\n"
    assert pilot_file.token_generation(str(tmp_path)) == 3
    assert pilot_file.admin(str(tmp_path)) == pilot_file.Account(
        id="an-id", username="admin", email="admin@framework.local", password_digest=f"digest of {PASSWORD}"
    )
    assert PASSWORD not in pilot_file.read(str(tmp_path)).get("notice", "")


def test_a_user_with_our_password_is_left_as_it_is(server: FakeCoder) -> None:
    server.password = PASSWORD
    admin.main()
    assert server.calls == [FIRST, LOGIN, TOKENS, MINT, CHECK, LOGOUT]
    assert server.resets == []


def test_another_password_is_reset_in_the_container_without_standing_in_an_argument(server: FakeCoder) -> None:
    server.password = OTHER_PASSWORD
    admin.main()
    assert server.calls == [FIRST, LOGIN, STRONG, LOGIN, TOKENS, MINT, CHECK, LOGOUT]
    reset = ("exec", "--interactive", "coder-server", "/opt/coder", "reset-password", "admin")
    assert server.stdin[server.commands.index(reset)] == f"{PASSWORD}\n{PASSWORD}\n"
    assert not [word for command in server.commands for word in command if PASSWORD in word]


def test_a_first_user_that_somebody_made_before_us_is_refused_and_not_taken_over(server: FakeCoder) -> None:
    server.password, server.intruded = OTHER_PASSWORD, True
    with pytest.raises(
        engine.JobError, match=r"somebody else made the first user of this Coder, admin \(admin@framework"
    ):
        admin.main()
    assert (server.resets, server.tokens) == ([], {})


OTHERS = ("b-id|ada|x|owner|active|ada@example.org", "c-id|admin|x|owner|active|chief@example.org")


@pytest.mark.parametrize(
    ("others", "known", "remedy"),
    [
        (
            (),
            False,
            "run `pulumi config set adminEmail boss@example.org` and `pulumi config set adminUsername boss`$",
        ),
        # The one that was recorded, else the one with the name of the settings, else the oldest.
        (OTHERS, True, "pulumi config set adminEmail boss@example.org`$"),
        (OTHERS, False, "pulumi config set adminEmail chief@example.org`$"),
        (OTHERS[:1], False, "pulumi config set adminEmail boss@example.org"),
    ],
)
def test_a_server_whose_owners_have_other_addresses_is_refused_with_the_one_that_is_meant(
    server: FakeCoder, tmp_path: Path, others: tuple[str, ...], known: bool, remedy: str
) -> None:
    server.password, server.username, server.email = PASSWORD, "boss", "boss@example.org"
    server.other_owners = others
    if known:
        server.known(tmp_path)
    with pytest.raises(engine.JobError, match=remedy):
        admin.main()
    assert (server.tokens, server.resets, server.username) == ({}, [], "boss")


def test_another_name_in_the_settings_renames_the_account_and_keeps_the_persons_own(
    server: FakeCoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.password = PASSWORD
    server.known(tmp_path)
    monkeypatch.setenv("ADMIN_USERNAME", "boss")
    admin.main()
    assert (server.username, server.name) == ("boss", "Ada Lovelace")
    server.calls.clear()
    admin.main()
    assert RENAME not in server.calls


@pytest.mark.parametrize("known", [True, False])
def test_an_owner_who_is_called_me_is_renamed_and_no_other_on_the_first_up(
    server: FakeCoder, tmp_path: Path, known: bool
) -> None:
    server.password, server.username = PASSWORD, "Me"
    if known:
        server.known(tmp_path)
    admin.main()
    assert server.username == "admin"


def test_an_owner_who_is_called_me_is_not_told_to_stay_so(server: FakeCoder) -> None:
    server.password, server.username, server.email = PASSWORD, "me", "me@example.org"
    with pytest.raises(engine.JobError, match=r"run `pulumi config set adminEmail me@example\.org`$"):
        admin.main()
    server.email, server.taken = "admin@framework.local", "admin"
    with pytest.raises(engine.JobError, match=r"is called: choose another name$"):
        admin.main()


def test_another_full_name_in_the_settings_is_set_once_and_one_from_the_dashboard_stays(
    server: FakeCoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.password, server.username = PASSWORD, "renamed"
    server.known(tmp_path)
    monkeypatch.setenv("ADMIN_NAME", "Grace Hopper")
    admin.main()
    assert (server.username, server.name) == ("renamed", "Grace Hopper")
    server.name = "Grace Brewster Hopper"
    admin.main()
    assert server.name == "Grace Brewster Hopper"
    # As a new pilot with these settings has it.
    monkeypatch.setenv("ADMIN_NAME", "")
    admin.main()
    assert server.name == ""


@pytest.mark.parametrize("known", [True, False])
def test_an_account_that_was_renamed_in_the_dashboard_keeps_its_name_and_gets_its_password_back(
    server: FakeCoder, tmp_path: Path, known: bool
) -> None:
    server.password = OTHER_PASSWORD
    if known:
        server.known(tmp_path)
    server.username = "renamed"
    admin.main()
    assert (server.username, server.password, server.resets) == ("renamed", PASSWORD, ["renamed"])
    assert (found := pilot_file.admin(str(tmp_path)))
    assert found.username == "admin"
    admin.main()
    assert server.username == "renamed"


def test_a_name_that_another_user_has_is_refused_with_the_setting(
    server: FakeCoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.password, server.taken = PASSWORD, "boss"
    server.known(tmp_path)
    monkeypatch.setenv("ADMIN_USERNAME", "boss")
    with pytest.raises(engine.JobError, match=r"adminUsername is boss, .*`pulumi config set adminUsername admin`"):
        admin.main()
    assert (found := pilot_file.admin(str(tmp_path)))
    assert found.username == "admin"


def test_what_was_recorded_of_an_account_that_is_gone_counts_no_more(
    server: FakeCoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.password = PASSWORD
    server.known(tmp_path, username="an-earlier-name")
    server.identifier, server.email = "another-id", "boss@example.org"
    with pytest.raises(engine.JobError, match="pulumi config set adminEmail boss@"):
        admin.main()
    assert pilot_file.admin(str(tmp_path)) is None
    monkeypatch.setenv("ADMIN_EMAIL", "boss@example.org")
    admin.main()
    assert server.username == "admin"
    assert (found := pilot_file.admin(str(tmp_path)))
    assert found.id == "another-id"


def test_another_owner_as_the_administrator_takes_our_tokens_from_the_one_of_before(
    server: FakeCoder, tmp_path: Path
) -> None:
    server.password = PASSWORD
    before = pilot_file.Account(id="id-of-before", username="admin", email="before@x.y", password_digest="digest of it")
    pilot_file.update(str(tmp_path), admin=dataclasses.asdict(before))
    server.other_owners = ("id-of-before|before|digest of it|owner|active|before@x.y",)
    server.tokens_of_before = {"a": "coder-pilot-3", "b": "coder-keeper-3", "c": "of his own"}
    admin.main()
    assert server.tokens_of_before == {"c": "of his own"}
    assert (found := pilot_file.admin(str(tmp_path)))
    assert found.id == "an-id"


@pytest.mark.parametrize(
    ("recorded", "told"),
    [
        # What the last job set is what is there: the settings or the state changed, and nobody in Coder.
        (OTHER_PASSWORD, None),
        (
            "a-third",
            "the password of admin was changed in Coder: set back to that of `make password WHO=admin`; to keep",
        ),
        (None, "the password of admin was another one in Coder: set to that of `make password WHO=admin`; to keep one"),
    ],
)
def test_only_a_password_that_was_changed_in_coder_is_set_back_with_a_notice(
    server: FakeCoder, capsys: pytest.CaptureFixture[str], tmp_path: Path, recorded: str | None, told: str | None
) -> None:
    if recorded:
        server.password = recorded
        server.known(tmp_path)
    server.password = OTHER_PASSWORD
    admin.main()
    notice = pilot_file.notice(str(tmp_path), "admin")
    assert (notice or {"text": ""})["text"].startswith(told or "")
    assert (notice is not None) == (told is not None)
    assert (told is not None) == ("pulumi config set --secret adminPassword" in capsys.readouterr().err)
    assert (account := pilot_file.admin(str(tmp_path)))
    assert account.password_digest == f"digest of {PASSWORD}"
    # The next job finds what this one left, and has nothing to tell.
    admin.main()
    assert pilot_file.notice(str(tmp_path), "admin") == notice
    pilot_file.update(str(tmp_path), notice=None)
    server.password = "changed-once-more"
    admin.main()
    assert pilot_file.notice(str(tmp_path), "admin") not in (None, notice)


@pytest.mark.parametrize("there", [None, OTHER_PASSWORD])
def test_a_password_that_coder_calls_weak_is_refused_before_it_is_used_with_the_setting_and_without_the_value(
    server: FakeCoder, there: str | None
) -> None:
    server.password, server.weak = there, "insecure password, try using a longer password"
    with pytest.raises(engine.JobError, match=r"a longer password: run `pulumi .* --secret adminPassword`") as refused:
        admin.main()
    assert PASSWORD not in str(refused.value)
    assert (server.password, server.resets, CREATE in server.calls) == (there, [], False)


def test_only_tokens_of_ours_are_replaced(server: FakeCoder) -> None:
    server.password = PASSWORD
    server.tokens = {"a": "coder-pilot-3", "b": "coder-pilot-2", "c": "somebody's"}
    admin.main()
    assert server.tokens == {"c": "somebody's", "new": "coder-pilot-3"}


def test_an_empty_token_is_an_error_here_and_not_two_resources_later(
    server: FakeCoder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server.minted = False
    with pytest.raises(engine.JobError, match="API token"):
        admin.main()
    assert capsys.readouterr().out == ""
    assert pilot_file.token_generation(str(tmp_path)) == 0


def test_a_refusal_names_the_server_and_no_secret(server: FakeCoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> object:
        raise coder.ApiError(503, "GET /api/v2/users/first: 503 down")

    monkeypatch.setattr(coder.Api, "call", refuse)
    with pytest.raises(engine.JobError, match=r"http://127\.0\.0\.1:7080 refused: .* 503") as refused:
        admin.main()
    assert PASSWORD not in str(refused.value)


def test_the_roles_password_goes_by_standard_input_and_stays_out_of_the_servers_log(server: FakeCoder) -> None:
    running = engine.State(running=True, healthy=True, restarts=0, started_at="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "state", lambda _: running)
        role_password.main()
    assert "ALTER ROLE coder PASSWORD 'it''s a password';" in server.stdin[-1]
    for quiet in ("SET log_min_error_statement = panic;", "SET log_statement = none;"):
        assert quiet in server.stdin[-1].partition("ALTER ROLE")[0]
    assert not [word for command in server.commands for word in command if "password'" in word]


STARTED_AT = "2026-11-25T07:26:12.633156362Z"


@dataclass
class World:
    """What the look finds; the containers by name."""

    running: dict[str, bool]
    answers: bool = True
    token_known: bool = True
    keepers_token_known: bool = True
    socket_answers: bool = True
    started: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    workspaces: list[str] = field(default_factory=list)
    """Those of admin that Coder takes for running."""
    containers: dict[str, str] = field(default_factory=dict)
    """Those of workspaces on the engine, each with its state and its networks."""
    listings: int = 0
    states: int = 0
    joined: list[str] = field(default_factory=list)
    template: list[dict[str, object]] = field(default_factory=list)
    """Our template's row in Coder's database, if it is there."""
    unused: bool = False
    """Whether it has a version that nobody uses."""
    taken: bool = False
    """Whether a template that is not ours has the name that ours is to have."""
    foreign: list[dict[str, object]] = field(default_factory=list)
    """The rows of workspaces that were never updated to ours."""


@pytest.fixture
def engine_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the engine's socket is; there is none yet."""
    monkeypatch.setenv("DOCKER_SOCKET", str(tmp_path / "docker.sock"))
    return tmp_path / "docker.sock"


@pytest.fixture
def look(
    engine_socket: Path, server: FakeCoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[World, str], dict[str, object]]:
    def run(world: World, mode: str) -> dict[str, object]:
        def state(name: str) -> engine.State | None:
            world.states += 1
            if name not in world.running:
                return None
            return engine.State(running=world.running[name], healthy=False, restarts=0, started_at=STARTED_AT)

        def docker(*arguments: str, stdin: str | None = None, timeout_s: float = 60) -> str:
            if arguments[0] == "start":
                world.started.append(arguments[1])
                world.running[arguments[1]] = True
                world.answers = True
            if arguments[0] == "restart":
                world.restarted.append(arguments[1])
            if "--unix-socket" in arguments and not world.socket_answers:
                raise engine.JobError("`docker exec` failed: ")
            if arguments[:3] == ("network", "connect", "coder-workspaces"):
                world.joined.append(arguments[3])
            if arguments[0] == "ps":
                world.listings += 1
                rows = [f"1\t{name}\tcoder\tw\t{shown}" for name, shown in world.containers.items()]
                return "\n".join([*rows, "2\tother.admin.demo\tother\tw\trunning\tbridge"])
            if "psql" not in arguments:
                return ""
            return "\n".join(
                [
                    *(["token"] if world.token_known else []),
                    *(["keeper-token"] if world.keepers_token_known else []),
                    *(["unused"] if world.unused else []),
                    *(["taken"] if world.taken else []),
                    *(f"runs admin.{name}" for name in world.workspaces),
                    *(f"template {json.dumps(each)}" for each in world.template),
                    *map(json.dumps, world.foreign),
                ]
            )

        monkeypatch.setattr(engine, "state", state)
        monkeypatch.setattr(engine, "docker", docker)
        monkeypatch.setattr(coder, "answers", lambda _: world.answers and all(world.running.values()))
        monkeypatch.setattr("sys.argv", ["alive", mode])
        joined = [name for name, shown in world.containers.items() if shown == "running\tcoder-workspaces"]
        monkeypatch.setenv("JOINED", json.dumps(joined))
        monkeypatch.setenv("STACK", "coder")
        monkeypatch.setenv("CODER_STARTED_AT", STARTED_AT if world.running.get("coder-server") else "")
        monkeypatch.setenv("WORKSPACES_NETWORK", "coder-workspaces")
        alive.main()
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    return run


BOTH = {"coder-server": True, "coder-postgres": True}


@pytest.mark.parametrize("mode", ["look", "ensure"])
@pytest.mark.parametrize(("known", "generation"), [(True, 7), (False, 8)])
def test_a_token_that_coder_no_longer_knows_asks_for_the_next_generation(
    look: Callable[[World, str], dict[str, object]], tmp_path: Path, mode: str, known: bool, generation: int
) -> None:
    pilot_file.update(str(tmp_path), token_generation=7, keeper_token_generation=4)
    world = World(running=dict(BOTH), token_known=known)
    generations = {"token": generation, "keeper-token": 4, "template-record": 0, "member": 0}
    assert look(world, mode) == {"answers": True, "generations": generations, "differences": [], "problem": None}
    assert world.started == []


def test_the_keepers_token_is_made_anew_alone(look: Callable[[World, str], dict[str, object]], tmp_path: Path) -> None:
    pilot_file.update(str(tmp_path), token_generation=7, keeper_token_generation=4)
    found = look(World(running=dict(BOTH), keepers_token_known=False), "ensure")
    assert found["generations"] == {"token": 7, "keeper-token": 5, "template-record": 0, "member": 0}
    # Counted by who makes it, when it is made.
    assert pilot_file.keeper_token_generation(str(tmp_path)) == 4


def test_the_look_asks_for_a_token_of_a_user_whose_password_is_the_one_that_was_set(
    look: Callable[[World, str], dict[str, object]], server: FakeCoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(postgres, "query", lambda *arguments: asked.append(arguments[-1]) or ["1"])
    world = World(running=dict(BOTH))
    assert look(world, "look")["answers"]
    server.known(tmp_path)
    assert look(world, "look")["answers"]
    assert [f"{postgres.PASSWORD_DIGEST} = ''" in asked[0], "= 'digest of None'" in asked[1]] == [True, True]


@pytest.mark.parametrize("stopped", [["coder-server"], ["coder-postgres"], ["coder-postgres", "coder-server"]])
def test_an_up_starts_what_is_stopped_and_a_preview_does_not(
    look: Callable[[World, str], dict[str, object]], stopped: list[str]
) -> None:
    world = World(running={**BOTH, **dict.fromkeys(stopped, False)}, answers=False)
    assert look(world, "look") == {"answers": False, "generations": {}, "differences": [], "problem": None}
    assert world.started == []
    assert look(world, "ensure")["answers"] is True
    assert world.started == stopped


@pytest.mark.parametrize(
    ("socket_made", "socket_answers", "mode", "restarted"),
    [
        ("2026-11-25T08:00:00Z", False, "ensure", ["coder-server"]),
        ("2026-11-25T08:00:00Z", False, "look", []),
        ("2026-11-25T08:00:00Z", True, "ensure", []),
        ("2026-11-25T07:00:00Z", False, "ensure", []),
        (None, False, "ensure", []),
    ],
)
def test_an_up_restarts_a_coder_that_holds_the_socket_of_an_engine_before_this_one(
    look: Callable[[World, str], dict[str, object]], engine_socket: Path, socket_made: str | None,
    socket_answers: bool, mode: str, restarted: list[str],
) -> None:  # fmt: skip
    if socket_made:
        engine_socket.touch()
        made_s = datetime.fromisoformat(socket_made).timestamp()
        os.utime(engine_socket, (made_s, made_s))
    world = World(running=dict(BOTH), socket_answers=socket_answers)
    assert look(world, mode)["answers"] is True
    assert world.restarted == restarted


def test_a_container_that_is_gone_is_a_problem_with_its_remedy_on_up_alone(
    look: Callable[[World, str], dict[str, object]],
) -> None:
    world = World(running={"coder-postgres": True}, answers=False)
    assert look(world, "look")["problem"] is None
    assert look(world, "ensure")["problem"] == "the container coder-server is gone: run `make up`"


def test_an_up_lets_workspaces_back_into_their_network_and_a_preview_does_not(
    look: Callable[[World, str], dict[str, object]],
) -> None:
    world = World(running=dict(BOTH), workspaces=["one", "two"])
    world.containers = {
        "coder.admin.one": "running\tbridge",
        "coder.admin.two": "running\tcoder-workspaces",
        "coder.admin.parked": "exited\tbridge",
    }
    look(world, "look")
    assert world.joined == []
    look(world, "ensure")
    assert world.joined == ["coder.admin.one"]


@pytest.mark.parametrize(
    ("containers", "listings"),
    [
        ({"coder.admin.one": "running\tcoder-workspaces"}, 0),
        # Renamed in the dashboard: its container has the earlier name until the next start.
        ({"coder.admin.earlier": "running\tcoder-workspaces"}, 1),
    ],
)
def test_the_engine_is_not_asked_for_workspaces_while_all_that_run_are_in_their_network(
    look: Callable[[World, str], dict[str, object]], containers: dict[str, str], listings: int
) -> None:
    world = World(running=dict(BOTH), workspaces=["one"], containers=containers)
    look(world, "ensure")
    assert (world.listings, world.joined) == (listings, [])


def test_a_coder_that_ran_when_the_world_was_looked_at_is_not_asked_for_again(
    look: Callable[[World, str], dict[str, object]],
) -> None:
    world = World(running=dict(BOTH))
    assert look(world, "ensure")["answers"] is True
    assert world.states == 0


HOUR_MS = 3_600_000
DECLARED = {"name": "code-server", "display_name": "Project workspace", "active_version_id": "v1"}


@pytest.fixture
def changed() -> dict[str, object]:
    """What somebody changed in the template; to be filled by the test."""
    return {}


ARCHIVE = "/api/v2/templates/ours/versions/archive"


@pytest.fixture
def record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, object]
) -> Callable[[int], list[tuple[str, object]]]:
    """Records the template with an idle time; what Coder, which has four workspaces, was told."""
    told: list[tuple[str, object]] = []
    shown = [
        {"id": "as-the-template", "template_id": "ours", "ttl_ms": 2 * HOUR_MS},
        {"id": "set-by-its-owner", "template_id": "ours", "ttl_ms": 3 * HOUR_MS},
        {"id": "never-stopped", "template_id": "ours"},
        {"id": "of-another-template", "template_id": "theirs", "ttl_ms": 2 * HOUR_MS},
    ]

    def call(api: coder.Api, method: str, path: str, body: Any = None, **_: object) -> object:
        assert (api.url, api.token) == ("http://127.0.0.1:7080", "a-token")
        if path == "/api/v2/templates/ours" and method == "GET":
            return {**DECLARED, "default_ttl_ms": json.loads(os.environ["TEMPLATE"])["default_ttl_ms"], **changed}
        if method == "GET":
            return {"workspaces": shown}
        if path != ARCHIVE:
            told.append((f"{method} {path}", body))
        archived.append((path, body) == (ARCHIVE, {"all": True}))
        return None

    archived: list[bool] = []

    def run(ttl_ms: int) -> list[tuple[str, object]]:
        for name, value in {
            "DATA_DIRECTORY": str(tmp_path), "TEMPLATE_ID": "ours",
            "TEMPLATE": json.dumps({**DECLARED, "default_ttl_ms": ttl_ms}),
            "CODER_URL": "http://127.0.0.1:7080", "CODER_TOKEN": "a-token",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        told.clear()
        record_template.main()
        # What no workspace uses any more, every time, and last.
        assert archived[-1]
        return list(told)

    monkeypatch.setattr(coder.Api, "call", call)
    return run


def test_a_new_idle_time_reaches_the_workspaces_that_have_the_earlier_one(
    record: Callable[[int], list[tuple[str, object]]], tmp_path: Path
) -> None:
    assert record(2 * HOUR_MS) == []
    assert record(2 * HOUR_MS) == []
    assert record(HOUR_MS) == [("PUT /api/v2/workspaces/as-the-template/ttl", {"ttl_ms": HOUR_MS})]
    assert pilot_file.read(str(tmp_path)) == {
        "template_id": "ours", "default_ttl_ms": HOUR_MS, "template": {**DECLARED, "default_ttl_ms": HOUR_MS},
    }  # fmt: skip


def test_workspaces_of_a_template_that_had_no_idle_time_get_ours_when_it_becomes_ours(
    record: Callable[[int], list[tuple[str, object]]], tmp_path: Path
) -> None:
    pilot_file.update(str(tmp_path), default_ttl_ms=0)
    assert record(HOUR_MS) == [("PUT /api/v2/workspaces/never-stopped/ttl", {"ttl_ms": HOUR_MS})]
    assert record(HOUR_MS) == []


def test_a_template_that_somebody_changed_is_set_back_and_what_is_not_declared_stays(
    record: Callable[[int], list[tuple[str, object]]], changed: dict[str, object]
) -> None:
    changed |= {"active_version_id": "v2", "failure_ttl_ms": 5}
    assert record(HOUR_MS) == [("PATCH /api/v2/templates/ours/versions", {"id": "v1"})]
    changed |= {"active_version_id": "v1", "display_name": "Mine"}
    ours = {"name": "code-server", "display_name": "Project workspace", "default_ttl_ms": HOUR_MS, "failure_ttl_ms": 5}
    assert record(HOUR_MS) == [("PATCH /api/v2/templates/ours", ours)]


def _of_template(found: dict[str, object]) -> object:
    return found["generations"]["template-record"]  # type: ignore[index]


def test_an_up_sees_what_somebody_changed_in_the_template_and_counts_it_once(
    look: Callable[[World, str], dict[str, object]], tmp_path: Path
) -> None:
    declared = {**DECLARED, "default_ttl_ms": HOUR_MS}
    pilot_file.update(str(tmp_path), token_generation=1, template_id="ours", template=declared)
    world = World(running=dict(BOTH), template=[{**declared, "default_ttl_ms": 0, "display_name": "Mine"}])
    said = ["the template code-server was changed in Coder (its display name, autostop): it is set back"]
    for mode, generation in (("look", 1), ("ensure", 1)):
        found = look(world, mode)
        assert (found["differences"], _of_template(found)) == (said, generation)
    world.template = [{**declared, "description": "of no matter to a pilot that does not declare it"}]
    assert _of_template(look(world, "ensure")) == 1
    world.unused = True
    found = look(world, "ensure")
    assert (found["differences"], _of_template(found)) == ([], 2)
    world.template = []
    assert look(world, "ensure")["problem"] == "the template code-server was deleted in Coder: `make up` makes it anew"


def test_a_foreign_template_of_our_name_stops_an_up_before_anything_is_sent(
    look: Callable[[World, str], dict[str, object]], tmp_path: Path
) -> None:
    world = World(running=dict(BOTH), taken=True)
    assert "`make adopt` says whether its workspaces can become ours" in str(look(world, "ensure")["problem"])
    pilot_file.update(str(tmp_path), adoption={"template": "theirs", "home": ""})
    assert "is called project: rename it in the dashboard" in str(look(world, "ensure")["problem"])


def test_a_home_that_nothing_leads_to_ours_stops_an_up_before_anything_is_sent(
    look: Callable[[World, str], dict[str, object]], tmp_path: Path
) -> None:
    volume = {
        "mode": "managed", "type": "docker_volume", "name": "home_volume", "provider": "kreuzwerker/docker",
        "instances": [{"attributes": {"name": "coder-w1-home"}}],
    }  # fmt: skip
    state = base64.b64encode(json.dumps({"version": 4, "resources": [volume]}).encode()).decode()
    row = {"title": "me/demo", "id": "w1", "transition": "stop", "status": "succeeded", "state": state, "started": None}
    world = World(running=dict(BOTH), foreign=[row])
    told = str(look(world, "ensure")["problem"])
    assert "me/demo: docker_volume.home_volume would be destroyed, and nothing leads it to ours" in told
    pilot_file.update(str(tmp_path), adoption={"template": "theirs", "home": "docker_volume.home_volume"})
    assert look(world, "ensure")["problem"] is None


def test_an_idle_time_that_coder_refuses_is_tried_again(
    record: Callable[[int], list[tuple[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    record(2 * HOUR_MS)

    def refuse(*_: object) -> object:
        raise coder.ApiError(500, "PUT: 500 down")

    with monkeypatch.context() as patch:
        patch.setattr(coder.Api, "call", refuse)
        with pytest.raises(engine.JobError, match="could not be set: PUT: 500 down"):
            record(HOUR_MS)
    assert record(HOUR_MS) == [("PUT /api/v2/workspaces/as-the-template/ttl", {"ttl_ms": HOUR_MS})]


def test_the_pilot_file_keeps_what_it_is_not_told_and_survives_garbage(tmp_path: Path) -> None:
    folder = str(tmp_path)
    pilot_file.update(folder, token_generation=2)
    pilot_file.update(folder, template_id="an-id")
    assert (pilot_file.token_generation(folder), pilot_file.template_id(folder)) == (2, "an-id")
    pilot_file.update(folder, template_id=None)
    assert pilot_file.read(folder) == {"token_generation": 2}
    for garbage in ("{half", "[1, 2]", '{"token_generation": "2", "template_id": 2}'):
        (tmp_path / pilot_file.NAME).write_text(garbage)
        assert (pilot_file.token_generation(folder), pilot_file.template_id(folder)) == (0, None), garbage


def test_whoever_reads_the_pilot_file_during_an_update_reads_the_old_one_whole(tmp_path: Path) -> None:
    pilot_file.update(str(tmp_path), token_generation=2)
    file, opened = tmp_path / pilot_file.NAME, tmp_path / "opened"
    before = file.read_text()
    # Another name of the same file: what somebody who has it open goes on reading.
    opened.hardlink_to(file)
    pilot_file.update(str(tmp_path), token_generation=3)
    assert opened.read_text() == before
    assert pilot_file.token_generation(str(tmp_path)) == 3
    assert sorted(tmp_path.iterdir()) == sorted([file, opened])


@pytest.mark.parametrize(
    ("found", "wanted", "refused"), [("17\n", "17", False), ("16\n", "17", True), (None, "17", False)]
)
def test_a_directory_of_another_major_is_refused_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str | None, wanted: str, refused: bool
) -> None:
    monkeypatch.setenv("DATA_DIRECTORY", str(tmp_path / "data"))
    monkeypatch.setenv("POSTGRES_IMAGE", "postgres:17")
    monkeypatch.setattr(engine, "docker", lambda *_, **__: f"postgres (PostgreSQL) {wanted}.2 (Debian)")
    cluster = tmp_path / "data" / "postgres"
    if found:
        cluster.mkdir(parents=True)
        (cluster / "PG_VERSION").write_text(found)
    if refused:
        with pytest.raises(engine.JobError, match="pulumi config set postgresImage postgres:16"):
            data_directory.main()
    else:
        data_directory.main()
    assert [(each.name, each.read_text()) for each in cluster.iterdir()] == ([("PG_VERSION", found)] if found else [])
    assert stat.S_IMODE((tmp_path / "data" / "backups").stat().st_mode) == 0o700


@pytest.mark.parametrize("own", [None, "node_modules\n"])
@pytest.mark.parametrize("inside", [True, False])
def test_git_sees_nothing_of_a_data_directory_in_the_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str | None, *, inside: bool
) -> None:
    data, commands = tmp_path / "data", []
    ignore = data / ".gitignore"
    if own:
        data.mkdir()
        ignore.write_text(own)
    for name, value in {"DATA_DIRECTORY": str(data), "POSTGRES_IMAGE": "postgres:17", "PURGE": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(data_directory, "CHECKOUT", tmp_path if inside else tmp_path / "checkout")
    monkeypatch.setattr(
        engine, "docker", lambda *words, **_: commands.append(words) or "postgres (PostgreSQL) 17.2 (Debian)"
    )
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True, timeout=60)
    for _ in range(2):
        data_directory.main()
        pilot_file.update(str(data), token_generation=1)
    shown = subprocess.run(
        ["git", "-C", str(tmp_path), "status", "--porcelain", "--untracked-files=all"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (shown.stdout == "") == (inside and own is None)
    assert (ignore.read_text() if ignore.exists() else None) == (data_directory.IGNORED if shown.stdout == "" else own)
    monkeypatch.setattr(sys, "argv", ["data_directory", "remove"])
    for folder in (data / "postgres", data / "backups"):
        folder.rmdir()
    data_directory.main()
    assert data.exists() == (own is not None)


def test_an_image_that_is_no_postgres_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "docker", lambda *_, **__: "nginx 1.2")
    with pytest.raises(engine.JobError, match="pulumi config set postgresImage"):
        data_directory.image_major("nginx:1")


def test_a_quote_in_an_sql_string_is_doubled() -> None:
    assert postgres.literal("it's") == "'it''s'"
