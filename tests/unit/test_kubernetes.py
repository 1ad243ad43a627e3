"""Without a cluster in the settings nothing of one is declared; with one, its account's token is in no plain text, and
what would fail is refused with its reason before anything is touched."""

from __future__ import annotations

import base64
import dataclasses
import json
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from pilot import cluster, converge, drift
from pilot.session import Session
from stack.jobs import coder_records, kubernetes, kubernetes_secrets, names, pilot_file, port, postgres
from stack.jobs.engine import JobError
from stack.policy import Resource, violations
from stack.settings import SettingsError, parse
from tests.certificates import of_another_time, self_signed
from tests.http_server import QuietHandler, serving
from tests.unit.program import CHECKOUT, LOCAL, Declared, declare, defaults

TOKEN = "the-token-of-the-account"
CONTAINER = "docker:index/container:Container"
TEMPLATE = "coderd:index/template:Template"
ADDRESS = "10.99.0.1"
CHECK_ADDRESS = port.check_address


def _kubeconfig(**user: Any) -> dict[str, Any]:
    return {
        "current-context": "pilot",
        "contexts": [{"name": "pilot", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [
            {
                "name": "here",
                "cluster": {
                    "server": "https://10.99.0.11:6443",
                    "certificate-authority-data": base64.b64encode(b"PEM").decode(),
                },
            }
        ],
        "users": [{"name": "me", "user": user or {"token": TOKEN}}],
    }


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings with a cluster, on a machine that has the address."""
    monkeypatch.setattr("stack.jobs.port.check_address", lambda _: None)
    monkeypatch.setattr("stack.jobs.world.has_account", lambda _: True)
    monkeypatch.setattr("stack.control_plane.engine.inspect", lambda *_, **__: [])
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(_kubeconfig()))
    return {**LOCAL, "kubernetesKubeconfig": str(file), "agentAddress": ADDRESS}


def _template(declared: Declared, name: str) -> Any:
    (found,) = [each for each in declared.of(TEMPLATE) if each.name == name]
    return found


def test_without_a_kubeconfig_nothing_of_a_cluster_is_declared() -> None:
    declared = declare(LOCAL)
    assert not [each for each in declared.resources if "kubernetes" in each.name]
    assert len(declared.of(TEMPLATE)) == 1
    coder = declared.one("coder").inputs
    assert not coder.get("uploads")
    assert [port["ip"] for port in coder["ports"]] == ["127.0.0.1"]


def test_with_one_all_else_stays_as_it_is(config: dict[str, str]) -> None:
    without, with_one = declare(LOCAL), declare(config)
    changed = [
        each.name for each in without.resources if each.request.custom and with_one.one(each.name).inputs != each.inputs
    ]
    assert changed == ["coder", "keeper"]
    told = [set(each.one("keeper").inputs["envs"]) for each in (without, with_one)]
    assert told[1] - told[0] == {"CLUSTER=yes"}
    # Only where it would delete there, the end of the pilot knows the cluster.
    assert "SERVER" not in with_one.one("retire").inputs["environment"]
    purges = declare({**config, "purgeOnDestroy": "true"}).one("retire")
    assert purges.inputs["environment"]["NAMESPACE"] == "coder-pilot"
    assert any("environment" in path for path in purges.secrets)
    more = {each.name for each in with_one.resources} - {each.name for each in without.resources}
    assert more == {"kubernetes-secrets", "kubernetes-template", "kubernetes-template-record"}


def test_nobody_reaches_coder_before_it_has_an_account(config: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.jobs.world.has_account", lambda _: False)
    declared = declare(config)
    assert [port["ip"] for port in declared.one("coder").inputs["ports"]] == ["127.0.0.1"]
    assert not [each for each in declared.resources if "kubernetes" in each.name]


def test_coder_answers_on_the_nodes_address_and_workspaces_there_know_it(config: dict[str, str]) -> None:
    declared = declare(config)
    assert [port["ip"] for port in declared.one("coder").inputs["ports"]] == ["127.0.0.1", ADDRESS]
    (version,) = _template(declared, "kubernetes-template").inputs["versions"]
    variables = {each["name"]: each["value"] for each in version["tfVars"]}
    assert variables["agent_url"] == f"http://{ADDRESS}:7080"
    assert variables["namespace"] == "coder-pilot"
    assert variables["built_images"] == "{}"
    other = declare({**config, "agentAddress": "", "kubernetesAgentUrl": "https://coder.example"})
    assert [port["ip"] for port in other.one("coder").inputs["ports"]] == ["127.0.0.1"]


def test_addresses_are_declared_in_the_order_in_which_the_engine_tells_them(
    config: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Docker 20.10 does; a list in another order would replace Coder's container at each `up`.
    told = [{"HostIp": address, "HostPort": "7080"} for address in (ADDRESS, "127.0.0.1")]
    container = {"NetworkSettings": {"Ports": {"7080/tcp": told}}}
    monkeypatch.setattr("stack.control_plane.engine.inspect", lambda *_, **__: [container])
    assert [port["ip"] for port in declare(config).one("coder").inputs["ports"]] == [ADDRESS, "127.0.0.1"]
    moved = declare({**config, "agentAddress": "10.99.0.2"}).one("coder").inputs["ports"]
    assert [port["ip"] for port in moved] == ["127.0.0.1", "10.99.0.2"]


def test_the_accounts_token_is_encrypted_wherever_it_is(config: dict[str, str]) -> None:
    declared = declare(config)
    holders = {each.name: each.secrets for each in declared.resources if TOKEN in json.dumps(each.inputs)}
    assert holders.keys() == {"coder", "kubernetes-secrets"}
    assert any("uploads" in path for path in holders["coder"])
    assert "environment" in holders["kubernetes-secrets"]


def test_a_secret_of_workspaces_is_in_no_variable_of_the_template(config: dict[str, str]) -> None:
    declared = declare({**config, "anthropicApiKey": "sk-very-secret"}, secrets=("anthropicApiKey",))
    assert "sk-very-secret" not in json.dumps(_template(declared, "kubernetes-template").inputs)
    assert "environment" in declared.one("kubernetes-secrets").secrets


def test_the_variables_are_exactly_those_that_the_files_declare(config: dict[str, str]) -> None:
    (version,) = _template(declare(config), "kubernetes-template").inputs["versions"]
    text = "".join(file.read_text() for file in (CHECKOUT / version["directory"]).glob("*.tf"))
    known = {line.split('"')[1] for line in text.splitlines() if line.startswith('variable "')}
    assert {each["name"] for each in version["tfVars"]} == known


@pytest.mark.parametrize("preview", [False, True])
def test_a_kubeconfig_that_is_missing_stops_an_up_and_not_a_preview(config: dict[str, str], preview: bool) -> None:
    missing = {**config, "kubernetesKubeconfig": "/nonesuch/kubeconfig"}
    if preview:
        assert len(declare(missing, preview=True).of(TEMPLATE)) == 1
        return
    with pytest.raises(pulumi.RunError, match=r"/nonesuch/kubeconfig cannot be read: No such file"):
        declare(missing)


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        (f"users: [{TOKEN}", "is no mapping in YAML"),
        (f"- {TOKEN}", "is no mapping"),
        (None, "cannot be read: Is a directory"),
        (b"\xff\xfe", "cannot be read: it is no text"),
    ],
)
def test_a_kubeconfig_that_is_none_stops_an_up_and_doctor_without_a_word_of_it(
    config: dict[str, str], contents: str | bytes | None, told: str
) -> None:
    file = Path(config["kubernetesKubeconfig"])
    file.unlink()
    if contents is None:
        file.mkdir()
    else:
        file.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    with pytest.raises(pulumi.RunError, match=told) as stopped:
        declare(config)
    with pytest.raises(JobError, match=told) as examined:
        cluster.cluster_of(str(file))
    assert TOKEN not in f"{stopped.value} {examined.value}"


def test_coders_container_gets_no_other_account_of_the_file(config: dict[str, str]) -> None:
    file = Path(config["kubernetesKubeconfig"])
    document = _kubeconfig()
    document["users"].append({"name": "boss", "user": {"token": "the-administrators"}})
    file.write_text(yaml.safe_dump(document))
    (upload,) = [each for each in declare(config).one("coder").inputs["uploads"] if "kubernetes" in each["file"]]
    assert "the-administrators" not in upload["content"]
    assert kubernetes.of(yaml.safe_load(upload["content"])) == kubernetes.of(document)


def test_an_address_that_this_machine_lacks_stops_an_up(
    config: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.jobs.port.check_address", CHECK_ADDRESS)
    with pytest.raises(pulumi.RunError, match=r"this machine does not have 192\.168\.253\.7"):
        declare({**config, "agentAddress": "192.168.253.7"})


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("text", "no mapping"),
        ({}, "no mapping"),
        ({**_kubeconfig(), "current-context": "other"}, "no context called other"),
        (_kubeconfig(**{"exec": {"command": "aws"}}), "has `exec`"),
        (_kubeconfig(**{"client-certificate": "/a.pem"}), "has `client-certificate`"),
        (_kubeconfig(tokenFile="/token"), "has `tokenFile`"),
        (_kubeconfig(**{"auth-provider": {"name": "oidc"}}), "has `auth-provider`"),
        (_kubeconfig(username="me"), "no token"),
        (_kubeconfig(**{"client-certificate-data": "QQ==", "client-key-data": "QQ=="}), "no token"),
        (
            {
                **_kubeconfig(),
                "clusters": [{"name": "here", "cluster": {"server": "https://x", "certificate-authority": "/ca.pem"}}],
            },
            "has `certificate-authority`",
        ),
        ({**_kubeconfig(), "clusters": [{"name": "here", "cluster": {"server": "http://x"}}]}, "no verified https"),
        (
            {
                **_kubeconfig(),
                "clusters": [{"name": "here", "cluster": {"server": "https://x", "insecure-skip-tls-verify": True}}],
            },
            "no verified https",
        ),
    ],
)
def test_a_kubeconfig_that_coder_could_not_use_is_refused(document: object, told: str) -> None:
    with pytest.raises(JobError, match=told) as refused:
        kubernetes.of(document)
    assert "docs/kubernetes.md" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"agentAddress": ADDRESS}, "agentAddress is set, but kubernetesKubeconfig is not"),
        ({"kubernetesAgentUrl": "https://x"}, "kubernetesAgentUrl is set, but kubernetesKubeconfig is not"),
        ({"kubernetesKubeconfig": "/k"}, "pulumi config set agentAddress"),
        ({"kubernetesKubeconfig": "k", "agentAddress": ADDRESS}, "an absolute path"),
        *(
            ({"kubernetesKubeconfig": "/k", "agentAddress": address}, "never 0.0.0.0")
            for address in ("0.0.0.0", "127.0.0.1", "8.8.8.8", "::", "nodes.lan")  # noqa: S104  nothing is bound
        ),
        ({"kubernetesNamespace": "Not_One"}, "the name of a Kubernetes namespace"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse({**defaults(), **changes}, Path("/checkout"))
    assert told in str(refused.value)


@pytest.mark.parametrize("address", [ADDRESS, "192.168.1.10", "100.64.0.1"])
def test_an_address_of_a_private_network_is_accepted(address: str) -> None:
    found = parse({**defaults(), "kubernetesKubeconfig": "/k", "agentAddress": address}, Path("/checkout"))
    assert found.kubernetes_agent_url == f"http://{address}:7080"


def test_only_coder_may_be_published_on_the_nodes_address_and_only_where_it_is_set() -> None:
    def published(name: str) -> Resource:
        return Resource(type=CONTAINER, name=name, inputs={"ports": [{"internal": 80, "ip": ADDRESS}]})

    assert violations([published("coder")], ADDRESS) == []
    assert violations([published("coder")]) != []
    assert violations([published("postgres")], ADDRESS) != []


def _answers(rules: list[dict[str, Any]], everything: bool) -> Mapping[str, object]:
    return {
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews": {"status": {"resourceRules": rules}},
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": {"status": {"allowed": everything}},
        "/api/v1/namespaces/coder-pilot/persistentvolumeclaims?dryRun=All": {},
    }


OURS = [
    {"apiGroups": [""], "resources": ["persistentvolumeclaims", "secrets"], "verbs": list(cluster.VERBS)},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": list(cluster.VERBS)},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What doctor's look says of an account with these rules, on a server in the place of a cluster."""
    answers: dict[str, object] = {}

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802  http.server's name
            body = json.dumps(answers[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        found = kubernetes.Cluster(server=url, authority="", token=TOKEN)
        monkeypatch.setattr(cluster, "cluster_of", lambda _: found)

        def examine(rules: list[dict[str, Any]], *, everything: bool = False) -> list[tuple[bool, str, str]]:
            answers.update(_answers(rules, everything))
            settings = parse(
                {**defaults(), "kubernetesKubeconfig": "/k", "agentAddress": ADDRESS}, Path("/checkout")
            ).kubernetes
            return list(cluster.examine(settings))

        yield examine


def test_doctor_says_which_right_is_missing_or_too_many(told: Any) -> None:
    assert told(OURS) == []
    assert [found for _, found, _ in told(OURS[:1])] == [
        "the account may not create, get, patch, update, delete deployments in coder-pilot",
        "the account may not list pods in coder-pilot",
    ]
    read_only = [{**OURS[0], "verbs": ["get"]}, *OURS[1:]]
    assert told(read_only)[0][1] == (
        "the account may not create, patch, update, delete persistentvolumeclaims in coder-pilot"
    )
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    ((prevents, found, _),) = told(everything, everything=True)
    assert not prevents
    assert "everything in the cluster" in found


def test_the_manifest_grants_exactly_what_doctor_asks_for() -> None:
    documents = list(yaml.safe_load_all((CHECKOUT / "docs" / "kubernetes.yaml").read_text()))
    (role,) = [each for each in documents if each["kind"] == "Role"]
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        # A cluster without a metrics server does as well.
        if rule["apiGroups"] != ["metrics.k8s.io"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {(group, resource, verb) for group, resource, verbs in cluster.NEEDED for verb in verbs}


@pytest.mark.parametrize(
    ("server", "told"),
    [("https://127.0.0.1:1", "does not answer"), ("https://nonesuch.invalid", "does not answer")],
)
def test_a_cluster_that_is_away_is_told_of_without_the_token(server: str, told: str) -> None:
    away = kubernetes.Cluster(server=server, authority="", token=TOKEN)
    with pytest.raises(kubernetes.ClusterError, match=told) as raised:
        away.call("GET", "/version")
    assert raised.value.status == 0
    assert TOKEN not in f"{raised.value} {away}"


def test_the_secret_of_a_pilot_of_the_same_name_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: dict[str, Any] = {}

    def call(_: kubernetes.Cluster, method: str, path: str, body: Any = None, *, content: str = "") -> Any:
        if method in ("GET", "DELETE") and path not in there:
            raise kubernetes.ClusterError(404, "not found")
        if method == "PATCH":
            there[path.partition("?")[0]] = body
        return there.pop(path) if method == "DELETE" else there.get(path)

    def run(machine: str, *words: str) -> None:
        (tmp_path / "machine-id").write_text(machine)
        monkeypatch.setattr("sys.argv", ["kubernetes_secrets", *words])
        kubernetes_secrets.main()

    monkeypatch.setattr(kubernetes.Cluster, "call", call)
    monkeypatch.setattr(kubernetes_secrets, "MACHINE", tmp_path / "machine-id")
    environment = {
        "DATA_DIRECTORY": str(tmp_path), "SERVER": "https://x", "AUTHORITY": "", "TOKEN": TOKEN,
        "NAMESPACE": "coder-pilot", "NAME": "coder-workspaces", "SECRETS": '{"KEY": "ours"}',
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run("one")
    before = dict(there)
    run("one")
    with pytest.raises(JobError, match="has the Secret coder-workspaces of another pilot: give one of the two another"):
        run("two")
    run("two", "remove")
    assert there == before
    run("one", "remove")
    assert there == {}


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (False, "is another cluster than the kubeconfig's: self-signed certificate"),
        (True, "is not valid now: certificate has expired"),
    ],
)
def test_a_server_that_is_another_or_whose_certificate_has_ended_gets_no_token(
    tmp_path: Path, ended: bool, told: str
) -> None:
    other = self_signed(tmp_path, "other", "localhost")
    shown, key = of_another_time(tmp_path, "20200101", "20200301", "localhost") if ended else other
    believed = shown if ended else self_signed(tmp_path, "believed", "localhost")[0]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(shown, key)
    asked = []

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  http.server's name
            asked.append(self.headers["Authorization"])

    with serving(Handler, tls=tls) as url:
        server = kubernetes.Cluster(
            server=url.replace("127.0.0.1", "localhost"), authority=Path(believed).read_text(), token=TOKEN
        )
        with pytest.raises(kubernetes.ClusterError) as raised:
            server.call("GET", "/version")
    assert told in str(raised.value)
    assert asked == []


def test_doctor_says_when_the_token_ends(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1764172800}).encode()).decode().rstrip("=")
    assert kubernetes.token_end_s(f"x.{claims}.y") == 1764172800
    assert kubernetes.token_end_s(TOKEN) is None
    assert kubernetes.token_end_s(f"x.{base64.urlsafe_b64encode(b'[]').decode()}.y") is None
    found = cluster.cluster_of("")
    monkeypatch.setattr(cluster, "cluster_of", lambda _: dataclasses.replace(found, token=f"x.{claims}.y"))
    ((prevents, words, fix),) = told(OURS)
    assert not prevents
    assert words.startswith("the kubeconfig's token ends at 2025-11-2")
    assert "docs/kubernetes.md" in fix


def test_a_cluster_that_is_away_fails_no_up_and_the_next_one_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {
        "DATA_DIRECTORY": str(tmp_path), "SERVER": "https://127.0.0.1:1", "AUTHORITY": "", "TOKEN": TOKEN,
        "NAMESPACE": "coder-pilot", "NAME": "coder-workspaces", "SECRETS": '{"KEY": "sk-very-secret"}',
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["kubernetes_secrets"])
    kubernetes_secrets.main()
    assert pilot_file.kubernetes_attempts(str(tmp_path)) == 1
    monkeypatch.setattr("sys.argv", ["kubernetes_secrets", "remove"])
    kubernetes_secrets.main()
    told = capsys.readouterr()
    assert "the next `make up` tries again: the cluster at https://127.0.0.1:1 does not answer" in told.out
    assert "the Secret coder-workspaces stays in coder-pilot" in told.err
    assert "sk-very-secret" not in told.out + told.err


DECLARED = {
    "name": names.KUBERNETES_TEMPLATE,
    "default_ttl_ms": 1,
    "active_version_id": "v1",
    "deprecation_message": "",
}


@pytest.mark.parametrize(
    ("rows", "said", "counted"),
    [
        ([], "the template code-server-kubernetes was deleted in Coder: `make up` makes it anew", 4),
        ([f"kubernetes_template {json.dumps(DECLARED)}"], "", 4),
        (
            [f"kubernetes_template {json.dumps({**DECLARED, 'default_ttl_ms': 0, 'active_version_id': 'v2'})}"],
            "the template code-server-kubernetes was changed in Coder (autostop, the active version): it is set back",
            5,
        ),
        ([f"kubernetes_template {json.dumps(DECLARED)}", "kubernetes_unused"], "", 5),
        (
            [f"kubernetes_template {json.dumps(DECLARED)}", "kubernetes_taken"],
            "a template that is not of this pilot is called code-server-kubernetes: rename it in the dashboard",
            4,
        ),
        ([f"kubernetes_template {json.dumps(DECLARED)}", "kubernetes_homes coder-pilot"], "", 4),
        (
            [f"kubernetes_template {json.dumps(DECLARED)}", "kubernetes_homes before"],
            "run `pulumi config set kubernetesNamespace before`, or delete those workspaces first",
            4,
        ),
    ],
)
def test_an_up_sees_what_somebody_did_to_the_template_for_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[str], said: str, counted: int
) -> None:
    for name, value in {
        "DATA_DIRECTORY": str(tmp_path), "TOKEN_PREFIX": "t-", "POSTGRES_CONTAINER": "p", "ROLE": "r", "DATABASE": "d",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    pilot_file.update(str(tmp_path), kubernetes_template=DECLARED, generations={"kubernetes-template-record": 4})
    monkeypatch.setattr(postgres, "query", lambda *_: rows)
    # Without a cluster in the settings it is nobody's.
    assert coder_records.look().problem is None
    assert "kubernetes-template-record" not in coder_records.look().generations
    monkeypatch.setenv("KUBERNETES_NAMESPACE", "coder-pilot")
    found = coder_records.look()
    assert said in "".join([*found.differences, found.problem or ""])
    assert bool(said) == bool(found.differences or found.problem)
    assert found.generations["kubernetes-template-record"] == counted


def test_the_commands_that_only_look_see_it_too(
    config: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "CHECKOUT", tmp_path)
    job = tmp_path / "stack" / "jobs" / "alive.py"
    job.parent.mkdir(parents=True)
    job.write_text("import json, os; print(json.dumps({'sees': os.environ.get('KUBERNETES_NAMESPACE')}))")
    assert drift.coder(parse({**defaults(), **config}, CHECKOUT))["sees"] == "coder-pilot"
    assert drift.coder(parse({**defaults(), **LOCAL}, CHECKOUT))["sees"] is None


class _Session(Session):
    """One with a cluster; it notes what it would run."""

    def __init__(self, data_dir: Path) -> None:
        values = {"kubernetesKubeconfig": "/k", "agentAddress": ADDRESS, "dataDir": str(data_dir)}
        found = parse({**defaults(), **LOCAL, **values}, CHECKOUT)
        super().__init__(stack="x", settings=found, environment={}, config_file=data_dir / "x", published=False)
        object.__setattr__(self, "ran", [])

    def pulumi(self, *arguments: str) -> int:
        self.ran.append(arguments)  # type: ignore[attr-defined]
        return 0


def test_one_make_up_is_enough_for_a_new_pilot(tmp_path: Path) -> None:
    session = _Session(tmp_path)

    def runs() -> int:
        session.ran.clear()  # type: ignore[attr-defined]
        assert converge.up(session) == 0
        return len(session.ran)  # type: ignore[attr-defined]

    assert runs() == 2
    account = {"id": "i", "username": "admin", "email": "e", "password_digest": "d"}
    pilot_file.update(str(tmp_path), admin=account)
    # An empty database gives itself to whoever comes, whatever was noted of another.
    assert runs() == 2
    (tmp_path / "postgres" / "base").mkdir(parents=True)
    assert runs() == 1


@pytest.mark.parametrize(
    ("known", "notes", "forgets"),
    [
        ({"code-server": "a", "code-server-kubernetes": "b"}, ("a", "b"), False),
        ({"code-server": "a"}, ("a", None), True),
        ({"code-server-kubernetes": "b"}, (None, "b"), True),
        ({"code-server": "a", "code-server-kubernetes": "new"}, ("a", "new"), True),
    ],
)
def test_a_template_that_was_deleted_is_made_anew_and_the_other_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[str, str], notes: tuple[object, object], forgets: bool
) -> None:
    session = _Session(tmp_path)
    pilot_file.update(str(tmp_path), template_id="a", kubernetes_template_id="b")
    resources = [
        {"type": TEMPLATE, "urn": f"x::{part}", "id": identifier}
        for part, identifier in (("template", "a"), ("kubernetes-template", "b"))
    ]

    def ask(_: object, sql: str) -> list[str]:
        if "to_regclass" in sql:
            return ["1"]
        return [each for name, each in known.items() if "id::text" not in sql or f"'{name}'" in sql]

    forgot: list[object] = []
    monkeypatch.setattr(converge, "ask", ask)
    monkeypatch.setattr(converge.postgres, "ready", lambda *_: True)
    monkeypatch.setattr(converge.state, "resources", lambda _: resources)
    monkeypatch.setattr(converge.state, "forget_template", forgot.append)
    assert converge._agree_on_template(session) == forgets
    assert bool(forgot) == forgets
    assert (
        pilot_file.template_id(str(tmp_path)),
        pilot_file.template_id(str(tmp_path), pilot_file.KUBERNETES),
    ) == notes
