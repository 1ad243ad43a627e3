"""The memory that is to stay free: a size, or a share of the host's."""

from __future__ import annotations

from keeper.idle import size


def mib(text: str, total_mib: float) -> float:
    """In MiB, of "10%" or "8192"; 0 for none."""
    return total_mib * int(text[:-1]) / 100 if text.endswith("%") else float(text)


def problem(text: str, total_mib: float) -> str:
    """Why nothing is stopped for such a reserve, "" where nothing is wrong with it."""
    if mib(text, total_mib) < total_mib:
        return ""
    return (
        f"memoryReserve is {size(mib(text, total_mib))}, and the host has {size(total_mib)}: no workspace is stopped "
        "for what can never be; run `pulumi config set memoryReserve 10%`"
    )
