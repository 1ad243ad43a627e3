#!/usr/bin/env bash
# Runs in Coder's container and says in the build's log what becomes of the workspace's pod: `started` waits until it runs,
# `ended` makes it end and waits until there is none. Terraform's provider says of a Deployment only whether it is ready, and
# counts one as gone whose pods still write into the home.
#
# In the environment: KUBECONFIG (as stack/jobs/kubernetes.py writes it), NAMESPACE, DEPLOYMENT, SELECTOR, LIMIT_S; to
# start also STORAGE_CLASS, that of the home.
set -euo pipefail

POLL_S=0.3
# A node may have to come first; what Kubernetes or the node refused is tried again a few times.
NODE_LIMIT_S=300
REFUSED_LIMIT_S=60

# The first line of a field with a text.
first() { sed -n "/^ *\"$1\": \"/{s/^[^:]*: \"\(.*\)\",\{0,1\}\$/\1/p;q;}" "${@:2}"; }
value() { first "$1" "$KUBECONFIG"; }

server=$(value server)
authority=$(value certificate-authority-data)

ask() {
  if [ -n "$authority" ]; then
    curl --cacert <(base64 -d <<<"$authority") "$@"
  else
    curl "$@"
  fi
}

# call PATH OPTION...: sets `answer`, one field a line, and `status`, "" where nobody answered. Never fails: why not is in
# `trouble`.
call() {
  trouble="" status=""
  # The token not as an argument: others of this machine see those.
  if ! answer=$(ask --silent --show-error --max-time 10 --header @<(printf 'Authorization: Bearer %s\n' "$(value token)") \
    --write-out '\n%{http_code}\n' "${@:2}" "$server$1" 2>&1); then
    trouble=${answer%%$'\n'*}
    return
  fi
  status=${answer##*$'\n'}
  [ "$status" = 200 ] || trouble="$(field message <<<"$answer") ($status)"
}

plain() { sed -e 's/\\u003c/</g' -e 's/\\u003e/>/g' -e 's/\\u0026/\&/g' -e 's/\\n/ /g' -e 's/\\t/ /g' -e 's/\\"/"/g' -e 's/\\\\/\\/g'; }
field() { first "$1" | plain; }
node() { field nodeName <<<"$answer"; }

# The part of a pretty answer from a line to the next one that closes an object.
part() { awk -v from="\"$1\": {" 'index($0, from) { inside = 1; next } inside && /^ *[}]/ { exit } inside'; }
# The condition of a type, where it has the status.
condition() {
  awk -v type="\"type\": \"$1\"" -v status="\"status\": \"$2\"" '
    /^ *[{]/ { text = "" }
    { text = text $0 "\n" }
    /^ *[}]/ { if (index(text, type) && index(text, status)) { printf "%s", text; exit } }'
}

# Each line once: a pull that fails is tried again and again.
told=""
tell() {
  case $'\n'"$told" in
    *$'\n'"$1"$'\n'*) ;;
    *) printf '%s\n' "$1" ;;
  esac
  told+="$1"$'\n'
}

# Sets `state` (runs, unknown, node, refused, comes) and `words`.
look() {
  local waiting reason
  call "/api/v1/namespaces/$NAMESPACE/pods?pretty=true&labelSelector=$SELECTOR"
  state=comes
  if [ -n "$trouble" ]; then
    words="Kubernetes does not say what becomes of the pod: $trouble"
    # It would say the same again.
    [[ $status != 40? ]] || state=unknown
    return
  fi
  if ! grep -q '"phase"' <<<"$answer"; then
    call "/apis/apps/v1/namespaces/$NAMESPACE/deployments/$DEPLOYMENT?pretty=true"
    words=$(condition ReplicaFailure True <<<"$answer" | field message)
    if [ -n "$words" ]; then
      state=refused words="Kubernetes makes no pod: $words"
    else
      words="Kubernetes makes the pod"
    fi
    return
  fi
  if grep -q '"running": {' <<<"$answer"; then
    state=runs words="the pod runs on $(node)"
    return
  fi
  words=$(condition PodScheduled False <<<"$answer" | field message)
  if [ -n "$words" ]; then
    state=node words="no node takes the pod yet: $words"
    case "$words" in
      *PersistentVolumeClaim*) words+="; the home's storage class is ${STORAGE_CLASS:-the default one}" ;;
    esac
    return
  fi
  if [ -z "$(node)" ]; then
    words="Kubernetes looks for a node"
    return
  fi
  waiting=$(part waiting <<<"$answer")
  reason=$(field reason <<<"$waiting")
  case "$reason" in
    "" | ContainerCreating | PodInitializing) words="the node $(node) gets the image and the home ready" ;;
    *) state=refused words="$reason: $(field message <<<"$waiting")" ;;
  esac
}

# Each look that says why not has a limit of its own, from when it first said so.
started() {
  local since=$SECONDS before="" limit
  while look; do
    tell "$words"
    case "$state" in
      runs | unknown) return 0 ;;
      node) limit=$NODE_LIMIT_S ;;
      refused) limit=$REFUSED_LIMIT_S ;;
      *) limit=$LIMIT_S ;;
    esac
    [ "$state" = "$before" ] || { before=$state since=$SECONDS; }
    if [ $((SECONDS - since)) -ge "$limit" ]; then
      printf 'given up after %s s: %s\n' "$limit" "$words" >&2
      return 1
    fi
    sleep "$POLL_S"
  done
}

# A node that is away cannot say that its pod has ended: no reason to keep the workspace from being stopped.
ended() {
  # While the Deployment is there, the controller of its pods ends them. Later it would be the garbage collector, which left a
  # pod for good after the API server had been away: the next start would have given its home to a second one.
  call "/apis/apps/v1/namespaces/$NAMESPACE/deployments/$DEPLOYMENT" \
    --request PATCH --header 'Content-Type: application/merge-patch+json' --data '{"spec": {"replicas": 0}}'
  [ -z "$trouble" ] || tell "Kubernetes does not end the pod: $trouble"
  while [ "$SECONDS" -lt "$LIMIT_S" ]; do
    call "/api/v1/namespaces/$NAMESPACE/pods?pretty=true&labelSelector=$SELECTOR"
    if [ -n "$trouble" ]; then
      tell "Kubernetes does not say whether the pod has ended: $trouble"
      [[ $status != 40? ]] || return 0
    elif grep -q '"phase"' <<<"$answer"; then
      tell "the pod on $(node) ends"
    else
      return 0
    fi
    sleep "$POLL_S"
  done
  printf 'the pod has not ended after %s s: its node may be away\n' "$LIMIT_S"
}

"$1"
