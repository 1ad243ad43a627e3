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

echo "== tests: end to end, contract, template, unit"
# A file's tests share a pilot, so whole files run side by side, those that take longest first. Most of their time is
# waiting: two more workers than cores, and never more than the memory of a small machine can hold pilots for.
cores=$(nproc)
side_by_side=(--dist loadfile --no-loadscope-reorder --numprocesses "$((cores < 5 ? cores + 2 : 6))")
long_first=(tests/e2e tests/contract tests/template tests/unit)
case "${1:-}" in
  --drills) exec python -m pytest "${side_by_side[@]}" "${long_first[@]}" -m "not speed" ;;
  --speed) exec python -m pytest tests -m speed ;;
  *) exec python -m pytest "${side_by_side[@]}" "${long_first[@]}" -m "not drill and not speed" ;;
esac
