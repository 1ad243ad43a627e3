"""The job behind `tailscale serve`: it refuses with the remedy, touches only what is ours, and never waits forever.

Decisions are tested on what `tailscale status --json` and `tailscale serve status --json` print (shapes taken from
1.98.10), exact to the command; the process around them with a stand-in on PATH for what a real tailscaled does not do
on demand: hang, lie, deny, be old.
"""

from __future__ import annotations

import copy
import json
import os
import pwd
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from stack.jobs import serve
from stack.jobs.engine import JobError
from stack.jobs.serve import Entry, Json, Step

CHECKOUT = Path(__file__).resolve().parents[2]
HOST = "framework.example.ts.net"
TARGET = "http://127.0.0.1:7080"
HTTPS = Entry("https", 443, HOST, TARGET)
HTTP = Entry("http", 7080, HOST, TARGET)
PASSED_ON = Entry("tcp", 443, HOST, "tcp://127.0.0.1:7081")
SET_PASSED_ON = Step(["serve", "--bg", "--tcp=443", "tcp://127.0.0.1:7081"])
OFF_PASSED_ON = Step(["serve", "--tcp=443", "off"])
SET_HTTPS = Step(["serve", "--bg", "--https=443", TARGET])
SET_HTTP = Step(["serve", "--bg", "--http=7080", TARGET])
OFF_HTTPS = Step(["serve", "--https=443", "--set-path=/", "off"])
OFF_HTTP = Step(["serve", "--http=7080", "--set-path=/", "off"])

STATUS: Json = {
    "Version": "1.98.10-t0123abcde-g0123abcde",
    "BackendState": "Running",
    "Self": {"DNSName": f"{HOST}.", "CapMap": {"https": None, "funnel": None}},
    "CertDomains": [HOST],
}


def served(*entries: Entry) -> Json:
    config: Json = {"TCP": {}, "Web": {}}
    for entry in entries:
        config["TCP"][str(entry.port)] = entry.mode
        if entry.scheme == serve.TCP:
            continue
        config["Web"][entry.web] = {"Handlers": {"/": {"Proxy": entry.target}}}
    return config


def with_path(config: Json, web: str, path: str) -> Json:
    config["Web"][web]["Handlers"][path] = {"Proxy": "http://127.0.0.1:3000"}
    return config


def moved(entry: Entry, **change: str) -> Entry:
    return replace(entry, **change)


OURS = served(HTTPS, HTTP)
GRAFANA = Entry("https", 8443, HOST, "http://127.0.0.1:3000")


@pytest.mark.parametrize(
    ("config", "previous", "steps"),
    [
        pytest.param({}, [], [SET_HTTPS, SET_HTTP], id="nothing-served-yet"),
        pytest.param(OURS, [HTTPS, HTTP], [], id="all-in-place"),
        pytest.param(OURS, [], [], id="all-in-place-after-a-lost-state"),
        pytest.param(served(HTTPS), [HTTPS, HTTP], [SET_HTTP], id="http-taken-off-by-hand"),
        pytest.param(served(HTTP, GRAFANA), [HTTPS, HTTP], [SET_HTTPS], id="https-taken-off-by-hand"),
        pytest.param(served(GRAFANA), [], [SET_HTTPS, SET_HTTP], id="another-port-is-somebody-elses"),
        pytest.param(
            with_path(served(GRAFANA, moved(HTTPS, target="http://127.0.0.1:7079")), f"{HOST}:443", "/grafana"),
            [moved(HTTPS, target="http://127.0.0.1:7079")],
            [SET_HTTPS, SET_HTTP],
            id="ours-to-point-elsewhere-beside-somebody-elses-path",
        ),
        pytest.param(
            served(moved(HTTPS, target="http://127.0.0.1:7079"), Entry("http", 7079, HOST, "http://127.0.0.1:7079")),
            [moved(HTTPS, target="http://127.0.0.1:7079"), Entry("http", 7079, HOST, "http://127.0.0.1:7079")],
            [Step(["serve", "--http=7079", "--set-path=/", "off"]), SET_HTTPS, SET_HTTP],
            id="another-port",
        ),
        pytest.param(
            served(HTTPS, HTTP, Entry("http", 7079, HOST, "http://127.0.0.1:9999")),
            [HTTPS, Entry("http", 7079, HOST, "http://127.0.0.1:7079")],
            [],
            id="our-old-port-is-somebody-elses-now",
        ),
    ],
)
def test_the_plan_is_these_exact_commands(config: Json, previous: list[Entry], steps: list[Step]) -> None:
    assert serve.plan(config, [HTTPS, HTTP], previous) == steps


@pytest.mark.parametrize(
    ("config", "previous", "wanted", "steps"),
    [
        ({}, [], [PASSED_ON, HTTP], [SET_PASSED_ON, SET_HTTP]),
        (OURS, [HTTPS, HTTP], [PASSED_ON, HTTP], [OFF_HTTPS, SET_PASSED_ON]),
        (served(PASSED_ON, HTTP), [PASSED_ON, HTTP], [PASSED_ON, HTTP], []),
        (served(PASSED_ON, HTTP), [PASSED_ON, HTTP], [HTTPS, HTTP], [OFF_PASSED_ON, SET_HTTPS]),
        (
            served(moved(PASSED_ON, target="tcp://127.0.0.1:7079"), HTTP),
            [moved(PASSED_ON, target="tcp://127.0.0.1:7079"), HTTP],
            [PASSED_ON, HTTP],
            [SET_PASSED_ON],
        ),
    ],
    ids=["nothing-served-yet", "a-domain-is-set", "all-in-place", "a-domain-is-taken-away", "another-port"],
)
def test_with_a_domain_of_ones_own_the_port_of_https_is_passed_on(
    config: Json, previous: list[Entry], wanted: list[Entry], steps: list[Step]
) -> None:
    assert serve.plan(config, wanted, previous) == steps
    for entry in wanted:
        serve.require_free(config, entry, serve.maybe_ours(config, entry))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (with_path(copy.deepcopy(OURS), HTTPS.web, "/grafana"), ["443/grafana leads to", "--set-path=/grafana off"]),
        (served(moved(HTTPS, target="http://127.0.0.1:3000")), ["port 443", "http://127.0.0.1:3000"]),
        ({"TCP": {"443": {"TCPForward": "127.0.0.1:22"}}}, ["port 443", "127.0.0.1:22"]),
        ({"TCP": {"443": {"TCPForward": "127.0.0.1:7081", "TerminateTLS": HOST}}}, ["port 443", "TerminateTLS"]),
        ({**OURS, "AllowFunnel": {HTTPS.web: True}}, ["port 443 is public"]),
    ],
    ids=["a-path-beside-ours", "https-to-elsewhere", "ssh", "tls-ended-before", "funnel"],
)
def test_a_port_that_somebody_else_uses_is_not_passed_on(config: Json, words: list[str]) -> None:
    with pytest.raises(JobError) as refusal:
        serve.plan(config, [PASSED_ON, HTTP], [HTTPS, HTTP])
    for word in words:
        assert word in str(refusal.value)


def test_what_is_passed_on_is_taken_off_under_whatever_name_the_node_has() -> None:
    assert serve.removals(served(PASSED_ON), [PASSED_ON], "renamed.example.ts.net") == [OFF_PASSED_ON]


@pytest.mark.parametrize(
    ("resolved", "told"),
    [
        ({"coder.example.com": ["100.64.0.1"], "any.coder.example.com": ["100.64.0.1", "fd7a::1"]}, ""),
        ({}, "coder.example.com leads nowhere, not to this machine's 100.64.0.1: add the DNS records"),
        ({"coder.example.com": ["192.0.2.7"]}, "coder.example.com leads to 192.0.2.7, not to"),
        ({"coder.example.com": ["100.64.0.1"]}, "any.coder.example.com leads nowhere"),
        ({"coder.example.com": ["100.64.0.1", "192.0.2.7"]}, "leads to 100.64.0.1, 192.0.2.7, not to"),
    ],
    ids=["here", "nowhere", "elsewhere", "no-wildcard", "here-and-elsewhere"],
)
def test_a_domain_has_to_lead_to_this_machine_with_all_its_names(
    monkeypatch: pytest.MonkeyPatch, resolved: dict[str, list[str]], told: str
) -> None:
    monkeypatch.setattr(serve, "addresses", lambda name, timeout_s: set(resolved.get(name, [])))
    status = {**STATUS, "Self": {**STATUS["Self"], "TailscaleIPs": ["100.64.0.1", "fd7a::1"]}}
    if not told:
        serve.require_names(status, "coder.example.com", 1)
        return
    with pytest.raises(JobError, match=r"docs/domain\.md") as refusal:
        serve.require_names(status, "coder.example.com", 1)
    assert told in str(refusal.value)


def test_a_name_is_resolved_as_programs_on_this_machine_do() -> None:
    assert "127.0.0.1" in serve.addresses("127.0.0.1", 5)
    assert serve.addresses("nowhere.invalid", 5) == set()


def test_with_a_domain_the_node_needs_no_certificate_of_the_tailnets() -> None:
    assert serve.node_name(without("CertDomains"), None, certificate=False) == HOST


def test_entries_under_an_earlier_name_of_the_node_go_and_everything_else_goes_back_as_it_came() -> None:
    old = [moved(HTTPS, host="old.example.ts.net"), moved(HTTP, host="old.example.ts.net")]
    foreign = served(GRAFANA)
    config = served(*old, GRAFANA)
    config["AllowFunnel"] = foreign["AllowFunnel"] = {f"{HOST}:8443": True}
    before = copy.deepcopy(config)

    steps = serve.plan(config, [HTTPS, HTTP], old)

    assert steps[0].args == ["serve", "set-raw"]
    assert json.loads(steps[0].stdin or "") == foreign
    assert steps[1:] == [SET_HTTPS, SET_HTTP]
    assert config == before


def test_a_port_stays_open_for_somebody_elses_path_under_the_earlier_name() -> None:
    old = moved(HTTPS, host="old.example.ts.net")
    config = with_path(served(old), old.web, "/grafana")
    [step] = serve.removals(config, [old], HOST)
    assert json.loads(step.stdin or "") == {
        "TCP": {"443": {"HTTPS": True}},
        "Web": {old.web: {"Handlers": {"/grafana": {"Proxy": "http://127.0.0.1:3000"}}}},
    }


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        pytest.param(OURS, [OFF_HTTPS, OFF_HTTP], id="both"),
        pytest.param(served(HTTP, GRAFANA), [OFF_HTTP], id="one-gone-already"),
        pytest.param({}, [], id="all-gone"),
        pytest.param(
            served(moved(HTTPS, target="http://127.0.0.1:3000"), HTTP), [OFF_HTTP], id="one-leads-elsewhere-now"
        ),
        pytest.param(
            {**OURS, "TCP": {"443": {"HTTPS": True}, "7080": {"HTTPS": True}}}, [OFF_HTTPS], id="another-protocol"
        ),
    ],
)
def test_removal_is_these_exact_commands(config: Json, steps: list[Step]) -> None:
    assert serve.removals(config, [HTTPS, HTTP], HOST) == steps


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"TCP": {"443": {"TCPForward": "127.0.0.1:22"}}}, ["port 443", "somebody else", "127.0.0.1:22"]),
        ({"TCP": {"443": {"HTTP": True}}}, ["port 443", "somebody else"]),
        (served(moved(HTTPS, target="http://127.0.0.1:3000")), ["port 443", "http://127.0.0.1:3000"]),
        (
            {"TCP": {"443": {"HTTPS": True}}, "Web": {HTTPS.web: {"Handlers": {"/": {"Path": "/srv/www"}}}}},
            ["port 443", "/srv/www"],
        ),
        (served(HTTPS, moved(HTTP, target="http://127.0.0.1:3000")), ["port 7080", "http://127.0.0.1:3000"]),
        ({"Foreground": {"abc": served(moved(HTTP, target="http://127.0.0.1:3000"))}}, ["port 7080", "terminal"]),
        ({**OURS, "AllowFunnel": {HTTPS.web: True}}, ["port 443 is public", "run `tailscale funnel --https=443 off`"]),
        ({**OURS, "AllowFunnel": {HTTP.web: True}}, ["port 7080 is public", "run `tailscale funnel --https=7080 off`"]),
        ({"AllowFunnel": {"other.example.ts.net:443": True}}, ["port 443 is public"]),
        ({"Foreground": {"abc": {"AllowFunnel": {HTTPS.web: True}}}}, ["port 443 is public"]),
    ],
    ids=[
        "tcp-forward", "wrong-protocol", "https-to-elsewhere", "files", "http-to-elsewhere", "serve-in-a-terminal",
        "funnel-on-https", "funnel-on-http", "funnel-under-another-name", "funnel-in-a-terminal",
    ],
)  # fmt: skip
def test_a_port_that_is_public_or_somebody_elses_is_refused(config: Json, words: list[str]) -> None:
    with pytest.raises(JobError) as refusal:
        serve.plan(config, [HTTPS, HTTP], previous=[])
    for word in words:
        assert word in str(refusal.value)


def test_a_funnel_that_is_off_or_on_another_port_is_nobodys_business() -> None:
    config = {**OURS, "AllowFunnel": {HTTPS.web: False, f"{HOST}:8443": True}}
    assert serve.plan(config, [HTTPS, HTTP], previous=[]) == []


def without(*path: str) -> Json:
    status = copy.deepcopy(STATUS)
    *parents, last = path
    node = status
    for key in parents:
        node = node[key]
    del node[last]
    return status


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        ({"BackendState": "NeedsLogin"}, None, ["logged out", "sudo tailscale up"]),
        ({"BackendState": "Stopped"}, None, ["disconnected", "sudo tailscale up"]),
        ({"BackendState": "NeedsMachineAuth"}, None, ["let in", "https://login.tailscale.com/admin/machines"]),
        ({"BackendState": "Starting"}, None, ["not connected yet", "Starting"]),
        ({}, None, ["not connected yet", "unknown"]),
        (without("Self", "CapMap", "https"), None, ["no HTTPS certificates", "https://login.tailscale.com/admin/dns"]),
        (without("Self", "CapMap"), None, ["https://login.tailscale.com/admin/dns"]),
        (without("CertDomains"), None, ["https://login.tailscale.com/admin/dns"]),
        (without("Self", "DNSName"), None, ["https://login.tailscale.com/admin/dns"]),
        (STATUS, "frame", [HOST, "not frame:", "pulumi config set tailnetName framework"]),
    ],
    ids=[
        "logged-out", "stopped", "not-approved", "starting", "no-state", "no-https", "no-capabilities",
        "no-certificate", "no-name", "another-name",
    ],
)  # fmt: skip
def test_a_node_that_cannot_serve_is_refused_with_the_remedy(
    status: Json, expected: str | None, words: list[str]
) -> None:
    with pytest.raises(JobError) as refusal:
        serve.node_name(status, expected)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("expected", [None, "framework", HOST])
def test_the_node_is_known_by_its_full_name(expected: str | None) -> None:
    assert serve.node_name(STATUS, expected) == HOST


@pytest.mark.parametrize("text", ["1.58.2", "1.9.0", "", "unstable"])
def test_an_old_or_unknown_version_is_refused(text: str) -> None:
    with pytest.raises(JobError, match=r"1\.60 or newer"):
        serve.require_version("tailscaled", text)


@pytest.mark.parametrize("text", ["1.60", "1.98.10\n  go version: go1.26", "1.98.10-t0123abcde", "2.0"])
def test_a_new_enough_version_passes(text: str) -> None:
    serve.require_version("tailscaled", text)


FAKE = '''
#!{python}
"""A `tailscale` that answers from files beside it, writes down how it was called, and can misbehave."""
import json, pathlib, sys, time
here = pathlib.Path(__file__).parent
args = sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(args) + "\\n")
behaviour = json.loads((here / "behaviour.json").read_text())
name = next((flag for flag in args if flag in behaviour), args[0])
if name in behaviour:
    how = behaviour[name]
    print(how.get("out", ""), end="", flush=True)
    print(how.get("err", ""), end="", file=sys.stderr, flush=True)
    if how.get("reads"):
        sys.stdin.read()
    time.sleep(how.get("sleeps_s", 0))
    sys.exit(how.get("exit", 0))
served = here / "serve.json"
if args == ["version"]:
    print("1.98.10")
elif args == ["status", "--json"]:
    print((here / "status.json").read_text())
elif args == ["debug", "prefs"]:
    print((here / "prefs.json").read_text())
elif args == ["serve", "status", "--json"]:
    print(served.read_text())
elif args[:2] == ["serve", "--bg"]:
    config = json.loads(served.read_text())
    scheme, port = args[2][2:].split("=")
    config.setdefault("TCP", {{}})[port] = {{scheme.upper(): True}}
    config.setdefault("Web", {{}})["{host}:" + port] = {{"Handlers": {{"/": {{"Proxy": args[3]}}}}}}
    served.write_text(json.dumps(config))
elif args[0] == "serve" and args[-1] == "off":
    config = json.loads(served.read_text())
    port = args[1].split("=")[1]
    del config["TCP"][port], config["Web"]["{host}:" + port]
    served.write_text(json.dumps(config))
elif args == ["serve", "set-raw"]:
    served.write_text(sys.stdin.read())
'''


class Fake:
    """The stand-in, and the job run against it as pulumi-command runs it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        program = directory / "tailscale"
        program.write_text(FAKE.format(python=sys.executable, host=HOST).lstrip())
        program.chmod(0o755)
        self.behave({})
        self.says(status=STATUS, serve={}, prefs={"OperatorUser": ""})

    def says(self, **answers: Json) -> None:
        for name, answer in answers.items():
            (self.directory / f"{name}.json").write_text(json.dumps(answer))

    def behave(self, behaviour: Json) -> None:
        """Of the first call whose arguments hold one of the keys: what it does instead of working."""
        (self.directory / "behaviour.json").write_text(json.dumps(behaviour))

    @property
    def served(self) -> Json:
        return json.loads((self.directory / "serve.json").read_text())

    @property
    def changes(self) -> list[list[str]]:
        calls = [json.loads(line) for line in (self.directory / "calls").read_text().splitlines()]
        return [call for call in calls if call[0] == "serve" and call[1] != "status"]

    def run(self, *args: str, port: int = 7080, stdout_before: str = "") -> subprocess.CompletedProcess[str]:
        terminal, somebody = os.pipe()  # open and silent, as a terminal is while nobody types
        try:
            return subprocess.run(
                [sys.executable, "-S", "-E", "-m", "stack.jobs.serve", *args],
                cwd=CHECKOUT,
                env={
                    "PATH": str(self.directory),
                    "PORT": str(port),
                    "MACHINE": "framework",
                    "DOMAIN": "",
                    "TAILSCALE_SOCKET": "",
                    "PULUMI_COMMAND_STDOUT": stdout_before,
                },
                stdin=terminal,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        finally:
            os.close(terminal)
            os.close(somebody)


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done
    assert done.stdout == "", "a refusal must leave nothing that Pulumi could store"
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, "one line, no traceback"
    return done.stderr


def test_apply_serves_both_and_a_second_run_changes_nothing(fake: Fake) -> None:
    first = fake.run("apply")
    result = json.loads(first.stdout)
    assert result["url"] == f"https://{HOST}"
    assert [Entry(**entry) for entry in result["entries"]] == [HTTPS, HTTP]
    assert fake.served == OURS
    assert fake.changes == [SET_HTTPS.args, SET_HTTP.args]

    second = fake.run("apply", stdout_before=first.stdout)
    assert second.stdout == first.stdout
    assert len(fake.changes) == 2


def test_another_port_takes_the_place_of_the_one_before(fake: Fake) -> None:
    before = fake.run("apply").stdout
    after = fake.run("apply", port=7090, stdout_before=before)
    assert after.returncode == 0, after.stderr
    target = "http://127.0.0.1:7090"
    assert fake.served == served(moved(HTTPS, target=target), Entry("http", 7090, HOST, target))


def test_check_changes_nothing_and_says_what_is_missing(fake: Fake) -> None:
    fake.says(serve=served(HTTPS))
    assert json.loads(fake.run("check").stdout) == {"url": f"https://{HOST}", "missing": ["http=7080"]}
    assert fake.changes == []


def test_check_lets_pass_what_may_be_ours_from_before_a_change_of_the_port(fake: Fake) -> None:
    fake.says(serve=served(moved(HTTPS, target="http://127.0.0.1:7079")))
    assert json.loads(fake.run("check").stdout)["missing"] == ["https=443", "http=7080"]


@pytest.mark.parametrize(
    "target", ["http://192.0.2.7:7080", "https+insecure://127.0.0.1:7080", "http://localhost:7080"]
)
def test_check_refuses_what_cannot_be_ours(fake: Fake, target: str) -> None:
    fake.says(serve=served(moved(HTTPS, target=target)))
    assert target in refused(fake.run("check"))


def test_in_a_preview_a_refusal_is_a_report(fake: Fake, tmp_path: Path) -> None:
    fake.says(status={**STATUS, "BackendState": "NeedsLogin"})
    done = fake.run("check", "--report")
    assert (done.returncode, done.stderr) == (0, "")
    assert "sudo tailscale up" in json.loads(done.stdout)["problem"]

    (tmp_path / "tailscale").unlink()
    assert "https://tailscale.com/download" in json.loads(fake.run("check", "--report").stdout)["problem"]


def test_success_with_nothing_done_is_found_out(fake: Fake) -> None:
    fake.behave({"--bg": {"out": "Serve is not enabled on your tailnet.\n", "exit": 0}})
    message = refused(fake.run("apply"))
    assert "https=443 and http=7080 is not configured" in message
    assert "https://login.tailscale.com/admin/dns" in message


def test_a_serve_that_never_ends_is_ended_and_quoted(fake: Fake) -> None:
    fake.behave({"--bg": {"out": "To enable, visit: https://login.tailscale.com/f/serve\n", "sleeps_s": 60}})
    message = refused(fake.run("apply", "--timeout-s", "1"))
    assert f"tailscale serve --bg --https=443 {TARGET}` did not end within 1 s" in message
    assert "https://login.tailscale.com/f/serve" in message


def test_a_question_finds_no_answer_instead_of_waiting_for_one(fake: Fake) -> None:
    fake.behave({"--bg": {"reads": True, "err": "Are you sure?", "exit": 1}})
    assert "failed: Are you sure?" in refused(fake.run("apply", "--timeout-s", "5"))


def test_a_denied_change_names_the_command_that_allows_it(fake: Fake) -> None:
    fake.behave({"--bg": {"err": "sending serve config: Access denied: serve config denied\n", "exit": 1}})
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert f"run `sudo tailscale set --operator={user}`\n" in refused(fake.run("apply"))
    assert fake.served == {}


@pytest.mark.parametrize(("operator", "allowed"), [("", False), ("somebody", False), ("nobody", True)])
def test_who_is_not_the_operator_is_told_so_before_anything_is_tried(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, operator: str, allowed: bool
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    monkeypatch.setenv("PATH", str(fake.directory))
    fake.says(prefs={"OperatorUser": operator})
    if allowed:
        assert serve.check(serve.Tailscale(), None, 7080)["missing"]
    else:
        with pytest.raises(JobError, match=r"run `sudo tailscale set --operator=nobody`"):
            serve.check(serve.Tailscale(), None, 7080)
    assert fake.changes == []


def test_the_command_that_allows_it_names_the_socket_too() -> None:
    assert "sudo tailscale --socket=/run/t.sock set --operator=" in serve.no_right(
        serve.Tailscale(socket="/run/t.sock").program
    )


def test_what_was_half_done_is_undone(fake: Fake) -> None:
    fake.says(serve=served(GRAFANA))
    fake.behave({"--http=7080": {"err": "etag mismatch", "exit": 1}})
    assert "etag mismatch" in refused(fake.run("apply"))
    assert fake.served == served(GRAFANA)


def test_an_undo_leaves_what_stood_before(fake: Fake) -> None:
    fake.says(serve=served(HTTPS))
    fake.behave({"--http=7080": {"err": "etag mismatch", "exit": 1}})
    refused(fake.run("apply"))
    assert fake.served == served(HTTPS)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"version": {"out": "1.50.1\n"}}, ["PATH", "1.50.1", "1.60"]),
        ({"status": {"err": "failed to connect to local tailscaled", "exit": 1}}, ["sudo systemctl start tailscaled"]),
        ({"status": {"err": "something new", "exit": 3}}, ["tailscale status --json", "something new"]),
        ({"status": {"out": "not json"}}, ["did not print JSON", "not json"]),
    ],
    ids=["old", "no-daemon", "failing", "garbled"],
)
@pytest.mark.parametrize("action", ["apply", "check"])
def test_a_tailscale_that_cannot_do_it_is_refused(fake: Fake, action: str, behaviour: Json, words: list[str]) -> None:
    fake.behave(behaviour)
    message = refused(fake.run(action))
    for word in words:
        assert word in message


def test_an_old_daemon_behind_a_new_command_line_is_refused(fake: Fake) -> None:
    fake.says(status={**STATUS, "Version": "1.50.1-t0123abcde"})
    assert "tailscaled is 1.50.1" in refused(fake.run("apply"))


def test_coder_on_port_443_is_refused() -> None:
    with pytest.raises(JobError, match="443"):
        serve.verified(serve.Tailscale(), None, 443)


def test_remove_takes_off_what_apply_configured_and_nothing_else(fake: Fake) -> None:
    fake.says(serve=served(GRAFANA))
    before = fake.run("apply").stdout
    done = fake.run("remove", stdout_before=before)
    assert json.loads(done.stdout) == {"removed": ["https=443", "http=7080"]}
    assert fake.served == served(GRAFANA)

    again = fake.run("remove", stdout_before=before)
    assert (again.returncode, json.loads(again.stdout)) == (0, {"removed": []})
    assert "https=443 was gone already" in again.stderr


def test_remove_works_on_a_machine_that_was_disconnected(fake: Fake) -> None:
    before = fake.run("apply").stdout
    fake.says(status={**STATUS, "BackendState": "Stopped"})
    done = fake.run("remove", stdout_before=before)
    assert done.returncode == 0, done.stderr
    assert fake.changes[-1] == ["serve", "set-raw"]
    assert fake.served == {"TCP": {}, "Web": {}}


@pytest.mark.parametrize(
    "behaviour",
    [
        {"status": {"err": "failed to connect to local tailscaled", "exit": 1}},
        {"status": {"out": json.dumps({"BackendState": "NeedsLogin"})}},
        None,
    ],
    ids=["no-daemon", "logged-out", "no-tailscale"],
)
def test_remove_succeeds_when_there_is_nothing_to_remove_from(fake: Fake, behaviour: Json | None) -> None:
    before = fake.run("apply").stdout
    if behaviour is None:
        (fake.directory / "tailscale").unlink()
    else:
        fake.behave(behaviour)
    done = fake.run("remove", stdout_before=before)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"removed": []})
    assert "nothing to take off the tailnet" in done.stderr


def test_a_removal_that_did_nothing_is_found_out(fake: Fake) -> None:
    before = fake.run("apply").stdout
    fake.behave({"off": {"exit": 0}})
    assert "https=443 and http=7080 is still there" in refused(fake.run("remove", stdout_before=before))


def test_remove_without_an_earlier_apply_removes_nothing(fake: Fake) -> None:
    fake.says(serve=OURS)
    assert fake.run("remove").returncode == 0
    assert fake.served == OURS


def test_reset_is_never_used() -> None:
    source = Path(serve.__file__).read_text()
    assert '"reset"' not in source


def test_help_needs_no_tailscale(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stack.jobs.serve", "--help"],
        cwd=CHECKOUT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0
    assert textwrap.dedent(serve.__doc__ or "").splitlines()[0] in done.stdout
