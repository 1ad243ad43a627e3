#!/usr/bin/env bash
# The quick part: lint, types, unit tests (the policy on the true program is one of them).
set -euo pipefail
cd "$(dirname "$0")/.."

# Only where the environment is not there: the quick part builds nothing that it does not need.
if [ ! -x .venv/bin/ruff ]; then
  python3 -m toolchain build --program >/dev/null
fi
eval "$(python3 -m toolchain env)"

echo "== lint and types"
ci/lint.sh
echo "== unit tests"
exec python -m pytest tests/unit -q --dist loadfile --numprocesses auto
