#!/usr/bin/env bash
# Usage: install.sh code-server|claude|node|extension
#
# Puts one part into the folder that the image's build lays over the base image, unless the base has it. The base's own
# files stay as they are: what was installed before is found by its place in that folder.
set -euo pipefail
# shellcheck source=parts.sh
. "$(dirname "$0")/parts.sh"

readonly overlay=/opt/coder-pilot/overlay
readonly node_version=24.19.0
# An image may set it, for a mirror.
readonly node_url=${CODER_PILOT_NODE_URL:-https://nodejs.org/dist}
mkdir -p "$overlay/usr/local/bin"
HOME=$(mktemp -d)
export HOME
trap 'rm -rf "$HOME"' EXIT
PATH=$PATH:$overlay/usr/local/bin

fail() {
  echo "ERROR: $*" >&2
  exit 1
}

# without PART NAME: not a failure, for everything else works. stack/jobs/workspace_images.py reads it; the next `up` tries
# again.
without() {
  echo "WARNING: the $2 could not be installed; the reason is above." >&2
  mkdir -p "$overlay/usr/local/share/coder-pilot"
  touch "$overlay/usr/local/share/coder-pilot/without-$1"
}

# install_node FOLDER: the release with npm, by the checksum that its site gives.
install_node() {
  local folder=$1 name sums
  name=node-v$node_version-linux-$(machine x64).tar.gz
  sums=$HOME/SHASUMS256.txt
  download "$node_url/v$node_version/SHASUMS256.txt" "$sums" || return
  download "$node_url/v$node_version/$name" "$HOME/$name" || return
  (cd "$HOME" && grep -F "  $name" "$sums" | sha256sum --check --quiet) || return
  mkdir -p "$HOME/node"
  tar --extract --gzip --file "$HOME/$name" --directory "$HOME/node" --strip-components 1 --no-same-owner || return
  rm -rf "$HOME/node"/{include,share,*.md}
  mkdir -p "${folder%/*}"
  mv "$HOME/node" "$folder"
}

case $1 in
  code-server)
    if command -v code-server; then
      echo "The base image has code-server."
      exit
    fi
    mkdir -p "$overlay/opt"
    install_code_server "$overlay/opt/code-server" ||
      fail "code-server $code_server_version could not be downloaded; the reason is above."
    ln -s /opt/code-server/bin/code-server "$overlay/usr/local/bin/code-server"
    ;;
  claude)
    if command -v claude; then
      echo "The base image has Claude Code."
      exit
    fi
    install_claude "$overlay/usr/local/bin/claude" ||
      fail "Claude Code $claude_version could not be downloaded; the reason is above."
    ;;
  node)
    if command -v node && command -v npm; then
      echo "The base image has Node.js with npm."
      exit
    fi
    if install_node "$overlay/opt/node"; then
      for program in "$overlay"/opt/node/bin/*; do
        ln -s "/opt/node/bin/${program##*/}" "$overlay/usr/local/bin/"
      done
    else
      without tools "release $node_version of Node.js"
    fi
    ;;
  extension)
    if [[ -d $overlay/opt/code-server ]]; then
      code_server=$overlay/opt/code-server/bin/code-server
    else
      code_server=$(command -v code-server)
    fi
    if has_extension "$code_server"; then
      echo "The base image has the extension."
      exit
    fi
    bundled=$(bundled_extensions "$code_server") ||
      fail "its code-server, $code_server, has no folder of extensions where code-server's releases have it."
    if install_extension "$code_server" --extensions-dir "$HOME/extensions"; then
      [[ $bundled == "$overlay"* ]] || bundled=$overlay$bundled
      mkdir -p "$bundled"
      mv "$HOME/extensions/$extension"-* "$bundled/$extension"
    else
      # A start of a workspace tries again as well.
      without extension "Claude Code extension"
    fi
    ;;
esac
