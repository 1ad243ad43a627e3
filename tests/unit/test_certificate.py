"""A certificate is good when a browser would take it now, for the domain and all names below it."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.jobs import certificate
from stack.jobs.engine import JobError
from tests.certificates import of_another_time, self_signed

DOMAIN = "coder.example.com"
BOTH = (DOMAIN, f"*.{DOMAIN}")

Make = Callable[..., tuple[str, str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a self-signed certificate and its key; which is enough, for what is read is the certificate itself."""

    return functools.partial(self_signed, tmp_path)


def test_a_good_one_is_read_with_its_key_and_its_end(make: Make) -> None:
    paths = make("good", *BOTH)
    found = certificate.read(*paths, DOMAIN)
    assert (found.certificate, found.key) == tuple(Path(each).read_text() for each in paths)
    days = subprocess.run(
        ["openssl", "x509", "-in", paths[0], "-noout", "-enddate", "-dateopt", "iso_8601"],
        check=True, capture_output=True, text=True, timeout=30,
    ).stdout  # fmt: skip
    assert f"{found.ends:%Y-%m-%d %H:%M:%SZ}" in days


def test_the_wildcard_of_the_parent_covers_the_domain_and_not_what_is_below_it(make: Make) -> None:
    assert certificate.read(*make("parent", "*.example.com", f"*.{DOMAIN}"), DOMAIN)
    with pytest.raises(JobError, match=r"not for \*\.coder\.example\.com"):
        certificate.read(*make("parent-alone", "*.example.com"), DOMAIN)


@pytest.mark.parametrize(
    ("names", "more", "told"),
    [
        ((DOMAIN,), ("-days", "30"), "is for coder.example.com, not for *.coder.example.com: get one for"),
        (("*.coder.example.com",), ("-days", "30"), "not for coder.example.com: get one"),
        (("other.example.com", "*.other.example.com"), ("-days", "30"), "not for coder.example.com and *.coder"),
        (BOTH, ("-days", "30", "-addext", "extendedKeyUsage=clientAuth"), "is no server's certificate"),
    ],
    ids=["no-wildcard", "wildcard-alone", "another-name", "not-for-servers"],
)
def test_one_that_a_browser_would_refuse_is_refused_with_the_reason(
    make: Make, names: tuple[str, ...], more: tuple[str, ...], told: str
) -> None:
    with pytest.raises(JobError) as refused:
        certificate.read(*make("bad", *names, more=more), DOMAIN)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("begins", "ends", "told"),
    [("20200101", "20200301", "ended on 2020-03-01: renew it"), ("20990101", "20990301", "begins on 2099-01-01")],
)
def test_one_of_another_time_is_refused(tmp_path: Path, begins: str, ends: str, told: str) -> None:
    dated, key = of_another_time(tmp_path, begins, ends, *BOTH)
    with pytest.raises(JobError) as refused:
        certificate.read(dated, key, DOMAIN)
    assert told in str(refused.value)


def test_the_key_of_another_one_is_refused(make: Make) -> None:
    good, other = make("good", *BOTH), make("other", *BOTH)
    with pytest.raises(JobError, match=r"other\.key is not the key of .*good\.crt"):
        certificate.read(good[0], other[1], DOMAIN)


def test_a_key_with_a_passphrase_is_refused_and_asks_nobody(make: Make) -> None:
    locked = make("locked", *BOTH, key=("-passout", "pass:secret"))
    with pytest.raises(JobError, match="no key without a passphrase"):
        certificate.read(*locked, DOMAIN)


def test_files_that_are_missing_or_something_else_are_named(make: Make, tmp_path: Path) -> None:
    good = make("good", *BOTH)
    with pytest.raises(JobError, match=r"gone\.crt cannot be read .*pulumi config set tlsCertificate"):
        certificate.read(str(tmp_path / "gone.crt"), good[1], DOMAIN)
    with pytest.raises(JobError, match=r"cannot be read \(Is a directory\): run `pulumi config set tlsKey"):
        certificate.read(good[0], str(tmp_path), DOMAIN)
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(JobError, match="no certificate or no key"):
        certificate.read(str(tmp_path / "text"), good[1], DOMAIN)


def test_a_file_that_is_closed_to_who_runs_up_is_told_with_the_command(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make("good", *BOTH)

    def closed(self: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", closed)
    with pytest.raises(JobError, match=r"good\.crt is closed to .*: run `sudo setfacl --modify u:"):
        certificate.read(*good, DOMAIN)


def test_a_ca_that_this_machine_does_not_know_is_seen(make: Make) -> None:
    assert not certificate.is_trusted(*make("good", *BOTH), DOMAIN)
