"""Certificates of tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def self_signed(
    folder: Path, name: str, *names: str, more: tuple[str, ...] = ("-days", "30"), key: tuple[str, ...] = ("-nodes",)
) -> tuple[str, str]:
    """Make a certificate for the DNS names, and its key; their paths. `more` and `key` are options of `openssl req`."""
    certificate, private = (str(folder / f"{name}.{ending}") for ending in ("crt", "key"))
    alternatives = ",".join(f"DNS:{each}" for each in names)
    subprocess.run(
        ["openssl", "req", "-x509", *KEY, *key, "-subj", "/CN=x", "-addext", f"subjectAltName={alternatives}", *more,
         "-out", certificate, "-keyout", private],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return certificate, private


def of_another_time(folder: Path, begins: str, ends: str, *names: str) -> tuple[str, str]:
    """A certificate from one day to another (20200101), and its key; their paths."""
    _, private = self_signed(folder, "now", *names)
    (folder / "index").touch()
    alternatives = ",".join(f"DNS:{each}" for each in names)
    (folder / "ca.cnf").write_text(
        f"[ca]\ndefault_ca = own\n[own]\ndatabase = {folder}/index\nnew_certs_dir = {folder}\ndefault_md = sha256\n"
        f"rand_serial = yes\npolicy = any\nx509_extensions = names\n[any]\ncommonName = supplied\n"
        f"[names]\nsubjectAltName = {alternatives}\n"
    )
    dated, request = f"{folder}/dated.crt", f"{folder}/request"
    dates = ("-startdate", f"{begins}000000Z", "-enddate", f"{ends}000000Z")
    for command in (
        ("req", "-new", "-key", private, "-subj", "/CN=x", "-out", request),
        ("ca", "-batch", "-selfsign", "-notext", "-config", f"{folder}/ca.cnf", "-keyfile", private, *dates,
         "-in", request, "-out", dated),
    ):  # fmt: skip
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=30)
    return dated, private
