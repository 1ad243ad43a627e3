"""A certificate of one's own: whether it is good for a domain and all names below it, and how long."""

from __future__ import annotations

import datetime
import os
import pwd
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.jobs.engine import JobError

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python has no name for.
_ANY_TIME = 0x200000


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate with its key, as PEM text, and when it is good."""

    certificate: str
    key: str
    begins: datetime.datetime
    ends: datetime.datetime

    @property
    def is_late(self) -> bool:
        """Whether it should have been renewed: clients do so when a third of its time is left."""
        return self.ends - datetime.datetime.now(datetime.UTC) < (self.ends - self.begins) / 5


def read(certificate: str, key: str, domain: str) -> Certificate:
    """Read both files and hold them against the domain.

    Raises:
        JobError: one cannot be read, they do not fit each other, or a browser would refuse the certificate now.
    """
    texts = [_read(path, setting) for path, setting in ((certificate, "tlsCertificate"), (key, "tlsKey"))]
    shown = _shown(certificate, key)
    names = {value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"}
    if missing := [name for name in (domain, f"*.{domain}") if not _covered(name, names)]:
        raise JobError(
            f"{certificate} is for {', '.join(sorted(names)) or 'no name'}, not for {' and '.join(missing)}: "
            f"get one for {domain} and *.{domain}, see docs/domain.md"
        )
    begins, ends = (_moment(shown[key]) for key in ("notBefore", "notAfter"))
    now = datetime.datetime.now(datetime.UTC)
    if ends <= now:
        raise JobError(f"{certificate} ended on {ends:%Y-%m-%d}: renew it, see docs/domain.md")
    if begins > now:
        raise JobError(f"{certificate} begins on {begins:%Y-%m-%d %H:%M} UTC: look at this machine's clock")
    return Certificate(certificate=texts[0], key=texts[1], begins=begins, ends=ends)


def _read(path: str, setting: str) -> str:
    try:
        return Path(path).read_text()
    except PermissionError:
        user = pwd.getpwuid(os.geteuid()).pw_name
        raise JobError(f"{path} is closed to {user}: run `sudo setfacl --modify u:{user}:r {path}`") from None
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise JobError(f"{path} cannot be read ({reason}): run `pulumi config set {setting} <file>`") from None


def _shown(certificate: str, key: str) -> dict[str, Any]:
    """What the certificate says of itself, after a handshake with it in memory.

    Raises:
        JobError: there is none in the file, the key is another one's, or it is not for servers.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # A key with a passphrase would have it asked for on the terminal.
        server.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise JobError(f"{key} is not the key of {certificate}: put the two that were made together") from None
        raise JobError(
            f"{certificate} or {key} is no certificate or no key without a passphrase in PEM ({error.reason}): "
            "see docs/domain.md"
        ) from None
    client.check_hostname = False
    client.load_verify_locations(certificate)
    # The certificate itself is what is trusted here: whoever issued it and whatever the time is, it can be read.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_ANY_TIME)
    try:
        return _handshake(server, client).getpeercert() or {}
    except ssl.SSLError as error:
        raise JobError(f"{certificate} is no server's certificate ({error.reason}): see docs/domain.md") from None


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str | None = None) -> ssl.SSLObject:
    """The client's side of a connection between the two in memory; `host` is what it asks for."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=host)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (here, there) * 3:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return here


def _covered(name: str, names: set[str]) -> bool:
    return name in names or (f"*.{name.partition('.')[2]}" in names and not name.startswith("*"))


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(text), datetime.UTC)


def is_trusted(certificate: str, key: str, domain: str) -> bool:
    """Whether this machine's CAs lead to it: with a file that lacks its chain, or a CA of one's own, they do not."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    server.load_cert_chain(certificate, key)
    try:
        _handshake(server, client, domain)
    except ssl.SSLError:
        return False
    return True
