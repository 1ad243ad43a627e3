#!/usr/bin/env bash
# Lint and types of everything that is ours. --all adds what takes long: go vet, and the template's format.
set -euo pipefail
cd "$(dirname "$0")/.."

# Go that is ours; the other modules under toolchain/go only name the program that they build.
own_go=(coderd-provider command-plugin docker-plugin random-plugin testcontrol pulumi/sdkgen)

ruff check --quiet
ruff format --check --quiet || { echo "error: not as ruff writes it, run \`ruff format\`" >&2; exit 1; }
mypy --no-error-summary
check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
check-jsonschema --quiet --builtin-schema vendor.renovate renovate.json
# With shellcheck on PATH it checks the workflows' scripts as well.
if command -v actionlint >/dev/null; then
  actionlint
elif [ "${1:-}" = --all ]; then
  echo "error: there is no actionlint: run \`python3 -m toolchain build\`" >&2
  exit 1
fi
if command -v shellcheck >/dev/null; then
  git ls-files -z --cached --others --exclude-standard -- '*.sh' | xargs -0 shellcheck --shell=bash --external-sources --source-path=SCRIPTDIR
elif [ "${1:-}" = --all ]; then
  echo "error: there is no shellcheck: run \`python3 -m toolchain build\`" >&2
  exit 1
fi
# The server of Coder is not vetted: that would compile all of Coder once more.
unformatted=$(gofmt -l "${own_go[@]/#/toolchain/go/}" toolchain/go/coder/server)
if [ -n "$unformatted" ]; then
  echo "error: not as gofmt writes it, run \`gofmt -w\`:" "$unformatted" >&2
  exit 1
fi

if [ "${1:-}" = --all ]; then
  tofu fmt -check -recursive terraform-template terraform-template-kubernetes tests/template
  # With the builder's settings and tags, so that vet finds in Go's cache what the builder compiled.
  lines=$(python3 -c 'from toolchain.recipes import GO_ENVIRONMENT as go; print(*map("=".join, go.items()), sep="\n")')
  mapfile -t settings <<< "$lines"
  for module in "${own_go[@]}"; do
    (cd "toolchain/go/$module" && env "${settings[@]}" go vet -tags no_compose ./...)
  done
fi
