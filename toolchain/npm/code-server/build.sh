#!/usr/bin/env bash
# Lays code-server with the Claude Code extension bundled, and Claude Code's command line tool, into a folder.
# Usage: build.sh OUT   (then OUT/bin/code-server and OUT/bin/claude)
#
# code-server's own install script would fetch ripgrep from outside the package registries. So: dependencies without
# their scripts, then the native modules compiled, and Debian's ripgrep in the place of the download.
set -euo pipefail

readonly out=$1
readonly here=$PWD
readonly options=(--ignore-scripts --omit=dev --no-audit --no-fund --loglevel=error)
export JOBS=2
# Node's headers from this machine: node-gyp would download them.
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
for module in @vscode/spdlog kerberos native-watchdog node-pty; do
  npm explore "$module" -- node-gyp rebuild
done
ln -s node_modules node_modules.asar
ln -s code-linux.sh bin/remote-cli/code-server
ln -s browser-linux.sh bin/helpers/browser.sh
mkdir -p node_modules/@vscode/ripgrep/bin
cp "$(command -v rg)" node_modules/@vscode/ripgrep/bin/rg

# Bundled, so that it is there in every home volume without an installation; a newer one that the user installs wins.
readonly claude=$out/node_modules/@anthropic-ai/claude-code
python3 -m zipfile -e "$claude/vendor/claude-code.vsix" vsix
mv vsix/extension extensions/anthropic.claude-code
rm -r vsix

# Other platforms' programs, compiler output and source maps: two thirds of the folder.
find "$claude/vendor/ripgrep" -mindepth 1 -maxdepth 1 -type d ! -name x64-linux -exec rm -r {} +
rm -r "$claude/vendor/claude-code-jetbrains-plugin" "$out/node_modules/@img"
find "$out/node_modules" -depth \( -name obj.target -o -name '*.map' -o -name build-tmp-napi-v3 \) -exec rm -r {} +

mkdir "$out/bin"
ln -s ../node_modules/code-server/out/node/entry.js "$out/bin/code-server"
ln -s ../node_modules/@anthropic-ai/claude-code/cli.js "$out/bin/claude"
chmod 755 "$out/node_modules/code-server/out/node/entry.js" "$claude/cli.js"

# What cannot even tell its version is no piece. Not with the user's own configuration, which code-server would write.
scratch=$(mktemp -d)
HOME=$scratch XDG_CONFIG_HOME=$scratch "$out/bin/code-server" --version
HOME=$scratch "$out/bin/claude" --version
rm -r "$scratch"
