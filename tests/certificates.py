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
