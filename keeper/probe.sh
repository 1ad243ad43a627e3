# Run in a workspace right before it would be stopped: what Coder's own record of it, up to two minutes old, cannot say.
# Prints a line for each reason to leave it alone, and "looked" at the end.
set -u
agent=''
for directory in /proc/[0-9]*; do
  { read -r name <"$directory/comm"; } 2>/dev/null || continue
  { mapfile -d '' -t words <"$directory/cmdline"; } 2>/dev/null || continue
  if [[ $name == coder && ${words[1]-} == agent ]]; then agent=${directory#/proc/}; fi
done
[[ -n $agent ]] || { echo "no agent"; exit 0; }

# What the agent forwards, an editor or a port, is a connection of its own to loopback (01: established); its others lead to
# Coder. Its health check of the editor has one as well, for a moment: what is there at two looks counts.
connections() {
  local link target table remote state inode
  local -A own=()
  for link in "/proc/$agent/fd/"*; do
    target=$(readlink "$link") || continue
    if [[ $target == socket:* ]]; then own[${target//[^0-9]/}]=1; fi
  done
  for table in /proc/net/tcp /proc/net/tcp6; do
    while read -r _ _ remote state _ _ _ _ _ inode _; do
      if [[ $state == 01 && -n ${own[$inode]-} && $remote =~ ^([0-9A-F]*0100007F|0{24}01000000): ]]; then echo "$inode"; fi
    done <"$table"
  done 2>/dev/null
}
first=$(connections)
if [[ -n $first ]]; then
  sleep 0.5
  if [[ -n $(comm -12 <(sort <<<"$first") <(connections | sort)) ]]; then echo "connected"; fi
fi

# A terminal in the browser, SSH and VS Code on a desktop are programs that the agent runs, and so are its scripts.
runs_something() {
  local directory line fields
  for directory in /proc/[0-9]*; do
    { read -r line <"$directory/stat"; } 2>/dev/null || continue
    read -ra fields <<<"${line##*) }"
    if [[ ${fields[1]} == "$agent" && ${fields[0]} != Z ]]; then return 0; fi
  done
  return 1
}
# It runs what it measures as well, every few seconds for a moment, which is longer where the machine is busy.
looks=10
while runs_something; do
  if ((looks-- == 0)); then
    echo "session"
    break
  fi
  sleep 0.5
done

# The watcher's last look at Claude is up to a minute old. One that does not say what it does may be at work.
for directory in /proc/[0-9]*; do
  { read -r name <"$directory/comm"; } 2>/dev/null || continue
  [[ $name == claude ]] || continue
  ask=(timeout 10 bash /tmp/coder-pilot/keep-alive.sh ask "${directory#/proc/}")
  # Only its user and root may know where its home is.
  [[ -O $directory ]] || ask=(sudo -n -u "#$(stat --format %u "$directory")" "${ask[@]}")
  answer=$("${ask[@]}" </dev/null 2>/dev/null) || answer=''
  # It may have ended meanwhile.
  [[ -d $directory ]] || continue
  if [[ $answer != *'['*']'* ]]; then echo "silent"; fi
  if [[ $answer =~ \"status\"[[:space:]]*:[[:space:]]*\"busy\" ]]; then echo "busy"; fi
done
echo "looked"
