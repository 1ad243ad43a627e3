#!/usr/bin/env bash
# Everything: the toolchain, lint and types, then one pytest over unit, template, contract and end-to-end tests.
# --drills adds the long end-to-end tests; --speed runs the comparisons of times alone.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "== toolchain: what is missing is built"
python3 -m toolchain build
eval "$(python3 -m toolchain env)"

echo "== lint and types"
ci/lint.sh --all

echo "== tests: unit, template, contract, end to end"
case "${1:-}" in
  --drills) exec python -m pytest tests -m "not speed" ;;
  --speed) exec python -m pytest tests -m speed ;;
  *) exec python -m pytest tests -m "not drill and not speed" ;;
esac
