#!/usr/bin/env bash
# Lays code-server with the Claude Code extension bundled, and Claude Code's own program, into a folder. Runs with the
# Node.js on PATH, which has to be the one that code-server asks for.
# Usage: build.sh OUT   (then OUT/bin/code-server and OUT/bin/claude)
#
# code-server's own install script would install without the shrinkwrap files of its two inner trees and look outside the
# package registries for compiled modules. So: dependencies without their scripts, then the native modules compiled.
set -euo pipefail

readonly out=$1
readonly here=$PWD
readonly options=(--ignore-scripts --omit=dev --no-audit --no-fund --loglevel=error)
export JOBS=2
# Node's headers from beside it: node-gyp would download them.
npm_config_nodedir=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
export npm_config_nodedir

cp "$here/package.json" "$here/package-lock.json" "$out/"
cd "$out"
npm ci "${options[@]}"
# Compiled at once: its script would first look outside the registries for a ready one.
npm_config_build_from_source=true npm rebuild argon2

readonly code=$out/node_modules/code-server/lib/vscode
# These two trees are pinned by the shrinkwrap files inside code-server's package; `npm ci` refuses the second, which
# forgot one dependency of a dependency.
(cd "$code/extensions" && npm ci "${options[@]}")
cd "$code"
npm install "${options[@]}"
for module in @parcel/watcher @vscode/deviceid @vscode/native-watchdog @vscode/spdlog @vscode/sqlite3 kerberos node-pty; do
  npm explore "$module" -- node-gyp rebuild
done

# Bundled, so that it is there in every home volume without an installation; a newer one that the user installs wins.
# The newest that a package registry has: later releases of the package come without it.
readonly package=$out/node_modules/@anthropic-ai
python3 -m zipfile -e "$package/claude-code/vendor/claude-code.vsix" vsix
mv vsix/extension extensions/anthropic.claude-code
rm -r vsix "$package/claude-code" "$out/node_modules/@img"

# Other platforms' programs, what the compiler needed and left, and source maps.
find node_modules/@vscode/ripgrep-universal/bin node_modules/node-pty/prebuilds -mindepth 1 -maxdepth 1 \
  ! -name linux-x64 -exec rm -r {} +
rm -r node_modules/@microsoft/mxc-sdk/bin/arm64 node_modules/@vscode/windows-process-tree/build node_modules/node-pty/third_party
find "$out/node_modules" -depth \( -name '*.map' -o -name '*.exe' -o -name '*.dll' -o -name obj.target -o -path '*/Release/obj' \
  -o -path '*/@vscode/*/deps' \) -exec rm -r {} +

mkdir "$out/bin"
ln -s ../node_modules/code-server/out/node/entry.js "$out/bin/code-server"
ln -s ../node_modules/@anthropic-ai/claude-code-linux-x64/claude "$out/bin/claude"
chmod 755 "$out/node_modules/code-server/out/node/entry.js" "$package/claude-code-linux-x64/claude"

# What cannot even tell its version is no piece. Not with the user's own configuration, which code-server would write.
scratch=$(mktemp -d)
HOME=$scratch XDG_CONFIG_HOME=$scratch "$out/bin/code-server" --version
HOME=$scratch "$out/bin/claude" --version
rm -r "$scratch"
