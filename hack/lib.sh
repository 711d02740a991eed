# shellcheck shell=bash
# What the scripts here share: steps with their seconds, clear failures, prerequisites. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1

# Set below `cargo test`: some build scripts (ring's) compile everything anew when they change.
unset CARGO_MANIFEST_DIR CARGO_MANIFEST_PATH "${!CARGO_PKG_@}"

# One sentence that says what is wrong and what to do, then the end.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The pid of the step under way, ended with us.
step_pid=
end_step() {
    [ -z "$step_pid" ] || kill "$step_pid" 2>/dev/null || true
}
trap end_step EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# step TITLE COMMAND...: runs the command, its output in a log, and says how long it took. On a terminal the line
# counts the seconds and shows what the command said last. A failure shows the end of the log and is returned.
step() {
    local title=$1 log status=0 start=$SECONDS last
    shift
    mkdir -p target/logs
    log=target/logs/$(printf '%s' "$title" | tr -cs 'a-zA-Z0-9' '-' | sed 's/^-*//; s/-*$//').log
    "$@" >"$log" 2>&1 </dev/null &
    step_pid=$!
    if [ -t 1 ]; then
        while kill -0 "$step_pid" 2>/dev/null; do
            last=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r\033' | cut -c "1-$((${COLUMNS:-$(tput cols 2>/dev/null || echo 80)} - ${#title} - 14))")
            printf '\r\033[K  … %s  %ds  %s' "$title" "$((SECONDS - start))" "$last"
            sleep 0.3
        done
        printf '\r\033[K'
    fi
    wait "$step_pid" || status=$?
    step_pid=
    if [ "$status" = 0 ]; then
        printf '  ✓ %s  %ds\n' "$title" "$((SECONDS - start))"
    else
        printf '  ✗ %s  %ds\n' "$title" "$((SECONDS - start))"
        tail -n 40 "$log" | sed 's/^/      /'
        printf '    the whole log: %s\n' "$log"
    fi
    return "$status"
}

# missing_packages PACKAGE...: those of the Debian packages that are not installed.
missing_packages() {
    local package
    for package; do
        dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

# need_packages PACKAGE...: fails unless the missing ones can be installed from here. Changes nothing.
need_packages() {
    local missing
    missing=$(missing_packages "$@" | xargs)
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null ||
        fail "not a Debian system (no apt-get): install what these Debian packages hold and run this again: $missing"
    [ "$(id -u)" = 0 ] || fail "some Debian packages are missing; as root: apt-get install $missing"
}

# install_packages PACKAGE...: installs the missing ones, without starting the services they bring.
install_packages() {
    local missing policy=/usr/sbin/policy-rc.d ours=
    missing=$(missing_packages "$@" | xargs)
    [ -n "$missing" ] || return 0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        ours=yes
    fi
    local status=0
    # shellcheck disable=SC2086 # a list of words
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing; } ||
        status=$?
    [ -z "$ours" ] || rm -f "$policy"
    return "$status"
}

# The Rust toolchain, from rustup.
need_cargo() {
    [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] && PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    command -v cargo >/dev/null || fail "no cargo: install the Rust toolchain from https://rustup.rs and run this again"
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    have=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ] ||
        fail "rustc $have is too old (Bosun needs $wanted): run \`rustup update stable\` and try again"
}
