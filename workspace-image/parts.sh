#!/usr/bin/env bash
# What a workspace needs beside its base image, and how each part is installed: by install.sh when the image is built, and
# by the template's code-server.sh at a start in an image that lacks one. Functions only; this file runs nothing.
# shellcheck disable=SC2034  # the scripts behind it use what is not used here

code_server_version=4.143.1
claude_version=2.1.332
extension=anthropic.claude-code
extension_version=2.1.332

# An image may set these, for a mirror.
code_server_url=${CODER_PILOT_CODE_SERVER_URL:-https://github.com/coder/code-server/releases/download}
claude_url=${CODER_PILOT_CLAUDE_URL:-https://downloads.claude.ai/claude-code-releases}
# A download that moves less than 1 kB/s for so long is given up, and an extension after so many of them.
stall_s=${CODER_PILOT_STALL_S:-30}
attempts=3

# retry COMMAND…: up to three times, with a rest in between.
retry() {
  local attempt
  for ((attempt = 1; attempt <= attempts; attempt++)); do
    "$@" && return
    ((attempt == attempts)) || sleep $((attempt * 2))
  done
  return 1
}

# download URL FILE
download() {
  retry curl --fail --silent --show-error --location --connect-timeout "$stall_s" \
    --speed-limit 1000 --speed-time "$stall_s" --output "$2" "$1"
}

# machine X86_64: this machine as the name of a release has it; each release calls x86_64 something else.
machine() {
  case $(uname -m) in
    x86_64) echo "$1" ;;
    aarch64) echo arm64 ;;
    *) uname -m ;;
  esac
}

# install_code_server FOLDER: the release, whole or not at all.
install_code_server() {
  local folder=$1 machine archive=$1.tar.gz partial=$1.partial
  machine=$(machine amd64)
  rm -rf "$partial"
  mkdir -p "$partial"
  if ! download "$code_server_url/v$code_server_version/code-server-$code_server_version-linux-$machine.tar.gz" "$archive" ||
    ! tar --extract --gzip --file "$archive" --directory "$partial" --strip-components 1; then
    rm -rf "$archive" "$partial"
    return 1
  fi
  rm "$archive"
  # Only a whole installation gets the name that is looked for.
  mv "$partial" "$folder"
}

# install_claude FILE: the native program, with the checksum of the release's manifest.
install_claude() {
  local file=$1 machine manifest sum
  machine=$(machine x64)
  mkdir -p "${file%/*}"
  download "$claude_url/$claude_version/manifest.json" "$file.partial" || {
    rm -f "$file.partial"
    return 1
  }
  manifest=$(tr -d '[:space:]' <"$file.partial")
  if ! [[ $manifest =~ \"linux-$machine\":\{[^}]*\"checksum\":\"([0-9a-f]{64})\" ]]; then
    rm "$file.partial"
    echo "The manifest of Claude Code $claude_version has no checksum for linux-$machine." >&2
    return 1
  fi
  sum=${BASH_REMATCH[1]}
  if ! download "$claude_url/$claude_version/linux-$machine/claude" "$file.partial" ||
    ! echo "$sum  $file.partial" | sha256sum --check --quiet; then
    rm -f "$file.partial"
    return 1
  fi
  chmod 755 "$file.partial"
  mv "$file.partial" "$file"
}

# bundled_extensions CODE_SERVER: the folder of the extensions that come with it, in the layout of the release, of npm and
# of the Debian package, whose program on PATH is a script.
bundled_extensions() {
  local root folder
  root=$(dirname "$(dirname "$(readlink -f "$1")")")
  for folder in "$root/lib/vscode/extensions" "$root/../lib/vscode/extensions" /usr/lib/code-server/lib/vscode/extensions; do
    if [[ -d $folder ]]; then
      readlink -f "$folder"
      return
    fi
  done
  return 1
}

# has_extension CODE_SERVER: bundled with it, or installed into the home.
has_extension() {
  local bundled
  if bundled=$(bundled_extensions "$1") && compgen -G "$bundled/$extension*" >/dev/null; then
    return
  fi
  compgen -G "$HOME/.local/share/code-server/extensions/$extension-*" >/dev/null
}

# install_extension CODE_SERVER [OPTION…]: the pinned version from the market, its newest where the market lacks that one.
install_extension() {
  local wanted
  for wanted in "$extension@$extension_version" "$extension"; do
    echo "Installing $wanted from the extension market."
    # No download of an extension tells when it stalls.
    timeout $((6 * stall_s)) "${@}" --install-extension "$wanted" && return
  done
  return 1
}
