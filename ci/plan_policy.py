"""Refuse a plan that breaks the policy: `python3 -m ci.plan_policy PLAN.json`; the rules are in stack/policy.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ci.plan import PlanError, read
from stack.policy import violations


def main(words: Sequence[str]) -> int:
    """The exit code: 0 for a good plan, 1 for violations, 2 for no plan."""
    if len(words) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        plan = read(Path(words[0]))
    except PlanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = violations(plan.resources(), plan.config.get("coder-pilot:agentAddress", ""))
    for each in found:
        print(f"policy: {each}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
