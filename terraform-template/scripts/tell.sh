# Functions for the other scripts of the workspace; does nothing by itself.
# shellcheck shell=bash

# tell LEVEL LINE...: puts the lines into the agent's log, by bash's own /dev/tcp: a script in the background has no other way,
# and without curl there is no agent that could.
tell() (
  [[ $CODER_AGENT_URL =~ ^http://([^/:]+)(:([0-9]+))?/?$ ]] || exit
  coder_host=${BASH_REMATCH[1]} coder_port=${BASH_REMATCH[3]:-80} level=$1 logs=()
  shift
  for line; do
    line=${line//\\/\\\\}
    line=${line//\"/\\\"}
    printf -v entry '{"created_at":"%(%Y-%m-%dT%H:%M:%SZ)T","output":"%s","level":"%s"}' -1 "${line//[[:cntrl:]]/ }" "$level"
    logs+=("$entry")
  done
  body=$(IFS=, && echo "{\"logs\":[${logs[*]}]}")
  # Bytes, not characters: that is what the server counts.
  LC_ALL=C
  exec 3<>"/dev/tcp/$coder_host/$coder_port" || exit
  {
    printf 'PATCH /api/v2/workspaceagents/me/logs HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n' "$coder_host:$coder_port"
    printf 'Coder-Session-Token: %s\r\nContent-Type: application/json\r\n' "$CODER_AGENT_TOKEN"
    printf 'Content-Length: %d\r\n\r\n%s' "${#body}" "$body"
  } >&3
  read -rt 10 _ status _ <&3
  [[ $status == 200 ]]
)
