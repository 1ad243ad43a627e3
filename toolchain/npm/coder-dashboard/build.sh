#!/usr/bin/env bash
# Builds Coder's dashboard out of the sources in SITE, the folder `site` of Coder's module, with the packages that its own
# lock file names.
# Usage: build.sh OUT SITE
set -euo pipefail

readonly out=$1 site=$2
here=$PWD
readonly here

npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
cd "$site"
# For the check of `engines` alone: the sources name Node.js up to 22, and build with 24 as well.
"$here/node_modules/.bin/pnpm" install --frozen-lockfile --ignore-scripts --config.node-version=22.20.0 \
  --reporter=append-only
# Its memory peaks at 3.7 GB with Node.js's own limit.
cp "$here/build-dashboard.mjs" .
NODE_ENV=production NODE_OPTIONS=--max-old-space-size=4096 node build-dashboard.mjs
test -s out/index.html
find out -name '*.map' -delete
mv out/* "$out/"
