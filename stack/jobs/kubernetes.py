"""A cluster's API as jobs and the front door see it: one account with a token, every call bounded in time."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stack.jobs import names, program
from stack.jobs.engine import JobError

CALL_TIMEOUT_S = 10
_FIX = "make one as docs/kubernetes.md says"
NO_OBJECT = "the kubeconfig is no mapping with clusters, users and contexts"
_NOT_IN_TIME = (9, 10)
"""Of a certificate, to OpenSSL: it begins later, and it has ended."""
MANAGER = "coder-pilot"
"""Who, to the API, sets the fields that `apply` sets."""


class ClusterError(JobError):
    """The cluster refused; `status` is its HTTP status, 0 where it did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where the API is, and as whom it is asked."""

    server: str
    authority: str
    """The certificate of who vouches for the server, as PEM text; "" where the system knows it."""
    token: str = field(repr=False)

    def call(
        self, method: str, path: str, body: object = None, *, content: str = "application/json"
    ) -> Mapping[str, Any]:
        """One request; the answer.

        Raises:
            ClusterError: the cluster refused or did not answer; neither body nor token is in the message.
        """
        request = urllib.request.Request(  # noqa: S310  https, see `of`
            f"{self.server}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": content, "Authorization": f"Bearer {self.token}"},
        )
        try:
            # Inside: a certificate that is none would be told of like one that does not fit.
            context = ssl.create_default_context(cadata=self.authority or None)
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            with opener.open(request, timeout=CALL_TIMEOUT_S) as answer:
                found: Mapping[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise ClusterError(error.code, self._refused(error)) from None
        except ValueError:
            raise ClusterError(0, f"{self.server} does not answer as a cluster does") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                told = self._not_believed(reason)
            else:
                told = f"the cluster at {self.server} does not answer: {reason}"
            raise ClusterError(0, told) from None
        return found

    def _refused(self, error: urllib.error.HTTPError) -> str:
        if error.code == 401:
            return f"{self.server} does not know the kubeconfig's token: it has ended, or is another cluster's"
        try:
            return str(json.load(error)["message"])
        except (ValueError, KeyError, TypeError):
            return f"{self.server} answered {error.code}"

    def _not_believed(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code in _NOT_IN_TIME:
            return (
                f"the certificate of {self.server} is not valid now: {error.verify_message}; renew it, or set the clock"
            )
        return f"{self.server} is another cluster than the kubeconfig's: {error.verify_message}"

    def apply(self, path: str, wanted: Mapping[str, object]) -> None:
        """Make the object at `path`, or change it to what is wanted.

        Raises:
            ClusterError: the cluster refused or did not answer.
        """
        self.call("PATCH", f"{path}?fieldManager={MANAGER}&force=true", wanted, content="application/apply-patch+yaml")


def of_environment() -> Cluster:
    """The cluster that the program hands to a job, as variables."""
    return Cluster(
        server=program.variable("SERVER"), authority=program.variable("AUTHORITY"), token=program.variable("TOKEN")
    )


def deployment(namespace: str, workspace: str) -> str:
    """Where the API has the Deployment of a workspace, by its id, as terraform-template-kubernetes/ names it."""
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/coder-{workspace}"


def start_secret(namespace: str, workspace: str) -> str:
    """The Secret of its start."""
    return f"/api/v1/namespaces/{namespace}/secrets/coder-{workspace}-start"


def claim(namespace: str, workspace: str) -> str:
    """The claim with its home."""
    return f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{names.home_volume(workspace)}"


def read(kubeconfig: str) -> str:
    """The file.

    Raises:
        JobError: it cannot be read.
    """
    try:
        return Path(kubeconfig).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise JobError(
            f"kubernetesKubeconfig: {kubeconfig} cannot be read: {reason}; see docs/kubernetes.md, or run "
            '`pulumi config set kubernetesKubeconfig ""` to go on without a cluster'
        ) from None


def no_yaml(kubeconfig: str) -> str:
    """What is wrong with a file that is none. Not where: those lines may have the token."""
    return f"kubernetesKubeconfig: {kubeconfig} is no mapping in YAML: {_FIX}"


def of(document: object) -> Cluster:
    """The cluster and the account of a kubeconfig's current context.

    Raises:
        JobError: it is none, or one that would need more than itself: a program, or other files.
    """
    if not isinstance(document, dict):
        raise JobError(f"{NO_OBJECT}: {_FIX}")
    context = _named(document, "contexts", document.get("current-context"))["context"]
    cluster = _named(document, "clusters", context.get("cluster"))["cluster"]
    user = _named(document, "users", context.get("user"))["user"]
    for part in (cluster, user):
        for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile", "exec", "auth-provider"):
            if key in part:
                raise JobError(f"the kubeconfig has `{key}`, which Coder's container does not: {_FIX}")
    if not isinstance(user.get("token"), str) or not user["token"]:
        raise JobError(f"the kubeconfig has no token: {_FIX}")
    if cluster.get("insecure-skip-tls-verify") or not str(cluster.get("server")).startswith("https://"):
        raise JobError(f"the kubeconfig would show the token to whoever answers, it has no verified https: {_FIX}")
    return Cluster(
        server=str(cluster["server"]).rstrip("/"),
        authority=_decoded(cluster.get("certificate-authority-data")),
        token=user["token"],
    )


def kubeconfig(cluster: Cluster) -> str:
    """A kubeconfig with this cluster and account alone, for Terraform's provider and for pod.sh, which wants each value
    on a line of its own."""
    authority = base64.b64encode(cluster.authority.encode()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pilot",
        "contexts": [{"name": "pilot", "context": {"cluster": "pilot", "user": "pilot"}}],
        "clusters": [
            {
                "name": "pilot",
                "cluster": {
                    "server": cluster.server,
                    **({"certificate-authority-data": authority} if authority else {}),
                },
            }
        ],
        "users": [{"name": "pilot", "user": {"token": cluster.token}}],
    }
    # JSON is YAML.
    return json.dumps(document, indent=2)


def token_end_s(token: str) -> int | None:
    """When the token ends, in seconds since 1970; None for one that does not, or does not say."""
    with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):
        claims = token.split(".")[1]
        return int(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"])
    return None


def _named(document: Mapping[str, Any], kind: str, name: object) -> Any:
    entries = document.get(kind)
    for each in entries if isinstance(entries, list) else []:
        if isinstance(each, dict) and each.get("name") == name and isinstance(each.get(kind[:-1]), dict):
            return each
    raise JobError(f"{f'the kubeconfig has no {kind[:-1]} called {name}' if name else NO_OBJECT}: {_FIX}")


def _decoded(data: object) -> str:
    try:
        return base64.b64decode(str(data or ""), validate=True).decode()
    except ValueError:
        raise JobError(f"the kubeconfig's certificate-authority-data is damaged: {_FIX}") from None
