# shellcheck shell=bash disable=SC2034
# What hack/up and hack/down share: the demo's places and its processes. Sourced after lib.sh.

# Everything of the demo is in this folder of the build folder; the tests use another one.
up=${BOSUN_UP_DIR:-$root/target/up}
mark=bosun-up-$(printf '%s' "$up" | cksum | cut -d' ' -f1)
cgroup=/$mark
netns=$up/netns
pidfile=$up/agent.pid
# A Unix socket's path has at most 107 bytes; below the run folder containerd needs 40 of them.
run=$up/run
[ ${#run} -le 67 ] || run=/run/$mark

bosun() {
    "$root/target/bin/bosun" "$@" --run-dir "$run"
}

# The agent's pid, if it runs.
agent_pid() {
    local pid
    pid=$(cat "$pidfile" 2>/dev/null) || return 1
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "agent --manifest-dir $up/" && echo "$pid"
}

# The pids of everything that belongs to the demo, by command line or cgroup.
demo_pids() {
    {
        grep -lsaF -e "$up/" -e "$run/" /proc/[0-9]*/cmdline | cut -d/ -f3
        find /sys/fs/cgroup -path "*/$mark*" -name cgroup.procs -exec cat {} + 2>/dev/null
    } | sort -un | while read -r pid; do
        [ "$pid" = $$ ] || [ ! -e "/proc/$pid/exe" ] || echo "$pid"
    done
}

# wait_for SECONDS COMMAND...: tries until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}
