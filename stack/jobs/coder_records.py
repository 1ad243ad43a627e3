"""What Coder's database says of the tokens, the account, the templates and the workspaces that `up` made there, held
against pilot.json; all of it by one query.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stack.jobs import adoption, names, pilot_file, postgres, program
from stack.jobs.postgres import literal

# A token about to expire is replaced while everything still works.
RENEW_BEFORE_DAYS = 14
NO_KEEPER = "the keeper's token is gone from Coder, or expires soon: it gets a new one"
TEMPLATE = {
    "name": "its name",
    "display_name": "its display name",
    "description": "its description",
    "icon": "its icon",
    "default_ttl_ms": "autostop",
    "activity_bump_ms": "activity bump",
    "allow_user_cancel_workspace_jobs": "who may cancel builds",
    "cors_behavior": "who may read an app",
    "deprecation_message": "deprecation",
    "active_version_id": "the active version",
}
"""What of a template is declared, and what a person calls it."""

# Each row begins with the name of its question; those of adoption.sql are JSON.
_QUESTIONS = """
SELECT 'token' FROM api_keys JOIN users ON users.id = user_id
WHERE token_name = {token} AND {password_digest} = {admins_digest}
    AND expires_at > now() + interval '{renew_before_days} days' LIMIT 1;

SELECT 'keeper-token' FROM api_keys
WHERE token_name = {keepers_token} AND expires_at > now() + interval '{renew_before_days} days' LIMIT 1;

SELECT 'member ' || json_build_object(
    'status', status, 'roles', array_to_string(rbac_roles, ','), 'digest', {password_digest}
) FROM users WHERE NOT deleted AND id::text = {member};

SELECT 'runs ' || lower(users.username || '.' || workspaces.name) FROM workspaces
JOIN users ON users.id = workspaces.owner_id
JOIN (
    SELECT DISTINCT ON (workspace_id) workspace_id, transition, job_id
    FROM workspace_builds ORDER BY workspace_id, build_number DESC
) AS latest ON workspace_id = workspaces.id
JOIN provisioner_jobs ON provisioner_jobs.id = job_id
WHERE template_id::text = {template} AND NOT workspaces.deleted
    AND transition = 'start' AND job_status = 'succeeded';
"""

# The same of each template; what begins the names says which it is.
_OF_TEMPLATE = """
SELECT '{prefix}template ' || json_build_object(
    'name', name, 'display_name', display_name, 'description', description, 'icon', icon,
    'default_ttl_ms', default_ttl / 1000000, 'activity_bump_ms', activity_bump / 1000000,
    'allow_user_cancel_workspace_jobs', allow_user_cancel_workspace_jobs, 'deprecation_message', deprecated,
    'cors_behavior', cors_behavior, 'active_version_id', active_version_id
) FROM templates WHERE NOT deleted AND id::text = {template};

-- As Coder's own query picks what it archives: used is what the latest build of a workspace has.
-- Nobody can create from one whose import failed.
SELECT '{prefix}unused' FROM template_versions JOIN templates ON templates.id = template_id
JOIN provisioner_jobs ON provisioner_jobs.id = job_id AND job_status = 'succeeded'
WHERE template_id::text = {template} AND NOT archived AND template_versions.id <> active_version_id
    AND NOT EXISTS (
        SELECT 1 FROM (
            SELECT DISTINCT ON (workspace_id) template_version_id, transition
            FROM workspace_builds ORDER BY workspace_id, build_number DESC
        ) AS latest
        WHERE transition <> 'delete' AND template_version_id = template_versions.id
    ) LIMIT 1;

-- What ties them to one namespace: a home does not go over to another.
SELECT '{prefix}homes ' || value FROM template_version_variables AS variables
JOIN templates ON active_version_id = template_version_id AND variables.name = 'namespace'
WHERE templates.id::text = {template}
    AND EXISTS (SELECT 1 FROM workspaces WHERE template_id = templates.id AND NOT deleted);

SELECT '{prefix}taken' FROM templates
WHERE NOT deleted AND lower(name) = {name} AND id::text <> {template} AND NOT {ours};
"""


@dataclass(frozen=True, kw_only=True)
class Template:
    """One that is declared."""

    name: str
    ours: str
    """SQL: whether one of that name is ours."""
    prefix: str = ""
    """Of its keys in pilot.json."""

    @property
    def part(self) -> str:
        """Its logical name."""
        return f"{self.prefix.replace('_', '-')}template"


def templates(directory: str, *, cluster: bool) -> Sequence[Template]:
    """Those that are declared: the engine's, and with a cluster that one's."""
    found = [Template(name=pilot_file.template_name(directory), ours=adoption.OURS)]
    if cluster:
        ours = adoption.OURS_ON_CLUSTER
        found.append(Template(name=names.KUBERNETES_TEMPLATE, ours=ours, prefix=pilot_file.KUBERNETES))
    return found


@dataclass(frozen=True, kw_only=True)
class Found:
    """What Coder's database says."""

    generations: Mapping[str, int]
    """One more than the last where what it counts is to be made anew."""
    differences: Sequence[str]
    """What somebody changed, and what an `up` does about it."""
    problem: str | None
    """Why the template cannot be made what is declared."""
    running: frozenset[str]
    """Workspaces of ours that Coder takes for running, as owner.name."""


def look() -> Found:
    """Ask the database, in one call.

    Raises:
        engine.JobError: it does not answer, or is not Coder's yet.
    """
    directory = program.variable("DATA_DIRECTORY")
    record = pilot_file.read(directory)
    admin, member = pilot_file.admin(directory), pilot_file.member(directory)
    token, keepers = pilot_file.token_generation(directory), pilot_file.keeper_token_generation(directory)
    namespace = os.environ.get("KUBERNETES_NAMESPACE", "")
    ours = templates(directory, cluster=bool(namespace))
    answers = _ask(
        directory,
        ours,
        token=literal(f"{program.variable('TOKEN_PREFIX')}{token}"),
        # Another password than the job gave the admin counts as well.
        admins_digest=literal(admin.password_digest if admin else ""),
        keepers_token=literal(f"{names.KEEPER_TOKEN_PREFIX}{keepers}"),
        member=literal(member.id if member else ""),
    )
    counted = record.get("generations") or {}
    generations = {"token": token + (not answers["token"]), "keeper-token": keepers + (not answers["keeper-token"])}
    differences, problems = [], []
    for each in ours:
        declared = record.get(f"{each.prefix}template") or {}
        live = next((json.loads(row) for row in answers[f"{each.prefix}template"]), None)
        changes = _changes_of_template(each.name, declared, live or declared)
        number = int(counted.get(f"{each.part}-record", 0))
        generations[f"{each.part}-record"] = number + bool(changes or answers[f"{each.prefix}unused"])
        differences += changes
        if declared and live is None:
            # The program cannot make it anew by itself: the engine refuses to replace what was adopted once.
            problems.append(f"the template {each.name} was deleted in Coder: `make up` makes it anew")
        elif answers[f"{each.prefix}taken"]:
            problems.append(_taken(each.name))
        problems += [_elsewhere(there) for there in answers[f"{each.prefix}homes"] if there != namespace]
    differences += (of_member := _changes_of_member(member, next(map(json.loads, answers["member"]), None)))
    generations["member"] = int(counted.get("member", 0)) + bool(of_member)
    if keepers and not answers["keeper-token"]:
        differences.append(NO_KEEPER)
    problems += _endangered(ours[0].name, answers["foreign"], pilot_file.adopted_home(directory))
    return Found(
        generations=generations,
        differences=differences,
        problem=next(iter(problems), None),
        running=frozenset(answers["runs"]),
    )


def _ask(directory: str, ours: Sequence[Template], **literals: str) -> Mapping[str, Sequence[str]]:
    """The answers by the name of the question; those to adoption.sql are "foreign"."""
    ids = [str(pilot_file.template_id(directory, each.prefix)) for each in ours]
    questions = _QUESTIONS.format(
        **literals, template=literal(ids[0]), password_digest=postgres.PASSWORD_DIGEST,
        renew_before_days=RENEW_BEFORE_DAYS,
    )  # fmt: skip
    for each, identifier in zip(ours, ids, strict=True):
        questions += _OF_TEMPLATE.format(
            prefix=each.prefix, template=literal(identifier), name=literal(each.name), ours=each.ours
        )
    rows = postgres.query(
        program.variable("POSTGRES_CONTAINER"), program.variable("ROLE"), program.variable("DATABASE"),
        questions + adoption.sql(ids[0]),
    )  # fmt: skip
    answers = defaultdict[str, list[str]](list)
    for row in rows:
        question, _, answer = ("foreign", "", row) if row.startswith("{") else row.partition(" ")
        answers[question].append(answer)
    return answers


def _changes_of_template(called: str, declared: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    changed = [TEMPLATE[key] for key, value in declared.items() if live.get(key) != value]
    return [f"the template {called} was changed in Coder ({', '.join(changed)}): it is set back"] if changed else []


def _changes_of_member(member: pilot_file.Account | None, live: Mapping[str, str] | None) -> list[str]:
    """What was done to the account for every day."""
    if member is None:
        return []
    if live is None:
        return [f"the account of {member.email} is gone from Coder: it is made anew"]
    changes = []
    if live["status"] == "suspended":
        changes.append(f"the account of {member.email} was suspended in Coder: it is activated")
    if live["roles"]:
        changes.append(f"{member.email} was given a role in Coder ({live['roles']}): a plain member again")
    if live["digest"] != member.password_digest:
        changes.append(
            f"the password of {member.email} was changed in Coder: set back to that of `make password`; to keep one of "
            "your own, `pulumi config set --secret password`"
        )
    return changes


def _taken(called: str) -> str:
    if called != names.TEMPLATE:
        return f"a template that is not of this pilot is called {called}: rename it in the dashboard, then `make up`"
    return (
        f"this Coder has a template {called} that is not of this pilot: `make adopt` says whether its workspaces "
        "can become ours with their homes, and notes the answer; then `make up`"
    )


def _elsewhere(namespace: str) -> str:
    return (
        f"kubernetesNamespace: the homes of the workspaces on the cluster are in {namespace}, and no other can "
        f"have them: run `pulumi config set kubernetesNamespace {namespace}`, or delete those workspaces first"
    )


def _endangered(called: str, foreign: Sequence[str], home: str) -> list[str]:
    """Why the template would take homes away, if it were sent."""
    why = adoption.endangered([adoption.workspace(each) for each in foreign], home)
    if not why:
        return []
    told = "\n".join(f"  - {each}" for each in why)
    return [
        f"an update of workspaces of the template {called} to ours would destroy what may hold files, so it is not "
        f"sent:\n{told}\n`make adopt` looks again; what still stands against it is to be deleted in the "
        "dashboard, after `make import` has copied its home"
    ]
