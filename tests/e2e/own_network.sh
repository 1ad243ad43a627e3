#!/usr/bin/env bash
# Usage: DOOR_PORT=PORT DOOR_SOCKET=FILE own_network.sh ARGUMENT…
#
# Runs Chromium in a network namespace where 127.0.0.1:PORT leads to the socket and nothing else leads anywhere. An
# interface with an address makes the browser believe that it is online; one that the kernel adds a second later (IPv6's,
# after it looked for a duplicate) would make it drop its requests. The relay ends with the browser's processes.
set -euo pipefail
# shellcheck disable=SC2016  # the inner shell expands it
exec unshare --net --pid --fork --kill-child --mount-proc bash -euo pipefail -c '
  ip link set lo up
  ip link add outside type veth peer name nowhere
  ip link set outside addrgenmode none
  ip link set nowhere addrgenmode none
  ip address add 192.0.2.1/24 dev outside
  ip link set nowhere up
  ip link set outside up
  socat "TCP-LISTEN:$DOOR_PORT,bind=127.0.0.1,fork,reuseaddr,backlog=128" "UNIX-CONNECT:$DOOR_SOCKET" &
  exec chromium "$@"' chromium "$@"
