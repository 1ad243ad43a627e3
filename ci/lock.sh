#!/usr/bin/env bash
# Write requirements.lock anew: the dependencies of pyproject.toml and its groups, exact, with hashes.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -m toolchain build uv >/dev/null
uv=$(python3 -c 'from toolchain.builder import Builder; from toolchain.pieces import PIECES
print(Builder(PIECES).directory("uv") / "bin" / "uv")')
# The SDK is generated, not published; it is installed from its wheel beside the lock.
"$uv" pip compile pyproject.toml --group dev --group host --group verdict --quiet --generate-hashes --no-header --no-annotate \
  --no-emit-index-url --no-emit-find-links --no-emit-package pulumi-coderd --python-version 3.11 \
  --output-file requirements.lock
