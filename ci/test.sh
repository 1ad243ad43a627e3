#!/usr/bin/env bash
# Everything: the toolchain, lint and types, then one pytest over unit, template, contract and end-to-end tests.
# --drills adds the long end-to-end tests; --speed runs the comparisons of times alone. --published runs the end-to-end
# tests on published images, plugins and Pulumi, which has to be on PATH with uv; what follows are options for pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --published ]; then
  shift
  echo "== published parts, and the tests' own tools"
  export CODER_PILOT_TEST_IMAGES=published
  python3 -m toolchain build tailscale testcontrol compose
  python3 -c 'from pilot.session import prepare; prepare("framework", images=False)'
  uv pip install --quiet --python .venv --require-hashes -r requirements.lock
  export PATH="$PWD/.venv/bin:$PATH"
  python -c 'from tests.e2e.parts import *; print(CODER_IMAGE, POSTGRES_IMAGE, WORKSPACE_IMAGE, DEBIAN_IMAGE, sep="\n")' |
    xargs --max-lines=1 docker pull --quiet
  echo "== tests: end to end"
  exec python -m pytest tests/e2e -m "not drill and not speed" --dist loadfile --numprocesses 3 "$@"
fi

echo "== toolchain: what is missing is built"
python3 -m toolchain build
if [ "${1:-}" = --drills ]; then
  python3 -m toolchain build dockerd
fi
eval "$(python3 -m toolchain env)"

echo "== lint and types"
ci/lint.sh --all

echo "== tests: end to end, contract, template, unit"
# A file's tests share a pilot, so whole files run side by side, those that take longest first. Most of their time is
# waiting: two more workers than cores, and never more than the memory of a small machine can hold pilots for.
cores=$(nproc)
side_by_side=(--dist loadfile --no-loadscope-reorder --numprocesses "$((cores < 5 ? cores + 2 : 6))")
long_first=(tests/e2e tests/contract tests/template)
if [ "${1:-}" = --speed ]; then
  exec python -m pytest tests -m speed
fi
# A person's way through the browser comes first, and with nothing beside it but what is quick: beside three other pilots
# a page was late for minutes now and then.
first=(tests/e2e/test_door.py tests/unit)
python -m pytest --dist loadfile --no-loadscope-reorder --numprocesses 2 "${first[@]}"
case "${1:-}" in
  --drills) exec python -m pytest "${side_by_side[@]}" "${long_first[@]}" --ignore "${first[0]}" -m "not speed" ;;
  *) exec python -m pytest "${side_by_side[@]}" "${long_first[@]}" --ignore "${first[0]}" -m "not drill and not speed" ;;
esac
