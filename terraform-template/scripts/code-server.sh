#!/usr/bin/env bash
# Starts code-server with the Claude Code extension. All parts come from the image if it has them; otherwise they are
# installed into the home volume, where the next start finds them. Runs behind tell.sh and parts.sh, which have the functions.
# shellcheck disable=SC2154  # parts.sh sets what is not set here
set -euo pipefail

readonly port=$CODER_PILOT_CODE_SERVER_PORT
readonly log=$CODER_PILOT_STATE_DIR/code-server.log
readonly given_up=$CODER_PILOT_STATE_DIR/code-server.given-up
readonly ends_max=5

find_code_server() {
  local installed=$HOME/.local/lib/code-server-$code_server_version
  if command -v code-server; then
    return
  fi
  if [[ ! -x $installed/bin/code-server ]]; then
    echo "The image has no code-server; installing $code_server_version into the home folder." >&2
    install_code_server "$installed" || {
      echo "ERROR: code-server $code_server_version could not be installed; the reason is above." \
        "Restart the workspace to try again, or choose an image that has it." >&2
      return 1
    }
  fi
  echo "$installed/bin/code-server"
}

# Quiet defaults for a first visit; the editor's own chat asks for an account elsewhere, and Claude Code is there. From then
# on the file is the user's.
write_first_settings() {
  local settings=$HOME/.local/share/code-server/User/settings.json
  [[ -e $settings ]] && return
  mkdir -p "${settings%/*}" && cat >"$settings.new" <<'JSON' && mv "$settings.new" "$settings" && return
{
  "chat.disableAIFeatures": true,
  "extensions.ignoreRecommendations": true,
  "security.workspace.trust.startupPrompt": "always",
  "telemetry.telemetryLevel": "off",
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "workbench.startupEditor": "none",
  "workbench.tips.enabled": false,
  "workbench.welcomePage.walkthroughs.openOnInstall": false
}
JSON
  rm -f "$settings.new"
}

say_if_home_is_full() {
  local size_kb used_kb free_kb
  { read -r && read -r _ size_kb used_kb free_kb _; } < <(df -Pk "$HOME")
  ((free_kb < 16 * 1024)) || return 0
  echo "ERROR: your home is full: $((used_kb / 1024)) of $((size_kb / 1024)) MiB are used, and what writes there fails." \
    "Remove what you can spare, in a terminal; \`du -xk ~ | sort -n | tail\` shows the largest folders." >&2
}

# keep_running PROGRAM: starts code-server, and starts it again whenever it ends, later each time.
keep_running() {
  local began_s status ended=0 pause_s=1 lines
  local options=()
  [[ $CODER_PILOT_WORKSPACE_TRUST == true ]] || options+=(--disable-workspace-trust)
  while :; do
    began_s=$SECONDS status=0
    # No password of its own: it listens on loopback, and Coder lets only the workspace's owner through.
    "$1" --auth none --bind-addr "127.0.0.1:$port" \
      ${CODER_PILOT_EDITOR_PATH:+--abs-proxy-base-path "$CODER_PILOT_EDITOR_PATH"} \
      "${options[@]}" --disable-telemetry --disable-update-check --disable-getting-started-override || status=$?
    if ((SECONDS - began_s >= 60)); then
      ended=0 pause_s=1
    fi
    if ((++ended < ends_max)); then
      tell warn "code-server ended with exit code $status; it is started again in $pause_s s." || true
    elif ((ended == ends_max)); then
      pause_s=60
      mapfile -t lines < <(tail -n 20 "$log")
      tell error "code-server ended $ends_max times within a minute of its start; it is tried again every $pause_s s." \
        "The end of its log ($log):" "${lines[@]}" || true
      touch "$given_up"
    fi
    sleep "$pause_s"
    ((ended >= ends_max)) || pause_s=$((2 * pause_s))
  done
}

# Jupyter lets in hosts other than localhost only if a file says so. Its token is asked for all the same.
write_jupyter_settings() {
  mkdir -p "$JUPYTER_CONFIG_PATH"
  echo '{"ServerApp": {"allow_remote_access": true}}' >"$JUPYTER_CONFIG_PATH/jupyter_server_config.json"
}

wait_until_it_answers() {
  local deadline=$((SECONDS + 60))
  until curl --noproxy '*' --silent --fail --output /dev/null --max-time 2 "http://127.0.0.1:$port/healthz"; do
    if [[ -e $given_up ]]; then
      echo "ERROR: code-server does not stay up; its last lines are in this log too." >&2
      return 1
    elif ((SECONDS >= deadline)); then
      echo "ERROR: code-server does not answer. The end of its log ($log):" >&2
      tail -n 20 "$log" >&2
      return 1
    fi
    sleep 0.5
  done
}

mkdir -p "$CODER_PILOT_STATE_DIR"
rm -f "$given_up"
# Each of them says why it failed, and an editor without them is better than none.
mkdir -p "$CODER_PILOT_PROJECT_DIR" || true
write_first_settings
write_jupyter_settings
code_server=$(find_code_server)

# From a file, or `ps` would show all of this script.
readonly keeper=$CODER_PILOT_STATE_DIR/keep-code-server.sh
{
  declare -p port log given_up ends_max
  declare -f tell keep_running
  # shellcheck disable=SC2016  # expands there
  echo 'keep_running "$1"'
} >"$keeper"
bash "$keeper" "$code_server" </dev/null >>"$log" 2>&1 &
say_if_home_is_full
wait_until_it_answers
echo "code-server is up."

# After the start: a slow or closed download delays nobody.
if ! has_extension "$code_server"; then
  echo "The image has no Claude Code extension; installing it into the home folder."
  if retry install_extension "$code_server" >>"$log" 2>&1; then
    echo "The Claude Code extension is installed; reload the editor's page if it is open already."
  else
    echo "WARNING: the Claude Code extension could not be installed ($attempts attempts, log: $log)." \
      "Everything else works; restart the workspace to try again, or install it from the editor." >&2
  fi
fi
if ! command -v claude >/dev/null && [[ ! -x $HOME/.local/bin/claude ]]; then
  echo "The image has no Claude Code; installing $claude_version into the home folder."
  install_claude "$HOME/.local/bin/claude" ||
    echo "WARNING: Claude Code $claude_version could not be installed; the reason is above." \
      "Everything else works; restart the workspace to try again." >&2
fi
