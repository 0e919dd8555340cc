#!/bin/bash
# Show portmap at work in a network namespace of its own, so that the machine itself
# is not changed.  `make demo` builds what it needs and runs it.
#
#   packaging/demo.sh PORTMAP HELLO RULES
set -euo pipefail

portmap=$(realpath "$1") hello=$(realpath "$2") rules=$3

if [ "${PORTMAP_DEMO:-}" != inside ]; then
    exec env PORTMAP_DEMO=inside "$(dirname "$0")/private.sh" "$0" "$@"
fi

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
export PORTMAP_STATE_DIR=$work/state
mkdir -m 700 "$work/state"

bold='' plain=''
[ ! -t 1 ] || bold=$'\e[1m' plain=$'\e[0m'
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
run() { printf '$ %s\n' "$1"; shift; "$@"; }

# In this namespace every process is root; a process without any capability has the
# same rights as one of an ordinary user.
unprivileged() {
    local who=()
    [ "$(awk '$1 == 0 { print $3 }' /proc/self/uid_map)" = 1 ] ||
        who=(--reuid=65534 --regid=65534 --clear-groups)
    exec setpriv "${who[@]}" --inh-caps=-all --bounding-set=-all --no-new-privs -- "$@"
}

# A copy, because other users may have no access to the build directory.
chmod 755 "$work"
install -m 755 "$hello" "$work/hello"

say "An app without privileges cannot have port 80:"
printf '$ hello 80\n'
if (unprivileged "$work/hello" 80); then echo "it can: this system has no privileged ports, and there is nothing to show"; exit 1; fi

say "It can have port 3000:"
printf '$ hello 3000 &\n'
(unprivileged "$work/hello" 3000) &
server=$!
for _ in $(seq 50); do
    "$work/hello" get 127.0.0.1:3000 >/dev/null 2>&1 && break
    sleep 0.1
done

say "The mapping:"
run "cat $rules" cat "$rules"

say "portmap applies it:"
run "portmap apply $rules" "$portmap" apply "$rules"

say "And port 80 answers, over IPv4 and IPv6:"
run "hello get 127.0.0.1:80" "$work/hello" get 127.0.0.1:80
run "hello get [::1]:80" "$work/hello" get '[::1]:80'

say "What is active, and who listens:"
run "portmap status" "$portmap" status

say "A second run finds nothing to do:"
run "portmap apply $rules" "$portmap" apply "$rules"

say "And it can be removed completely:"
run "portmap clear" "$portmap" clear
printf '$ hello get 127.0.0.1:80\n'
if "$work/hello" get 127.0.0.1:80; then echo "port 80 still answers"; exit 1; fi

say "None of this touched your machine.  To do it there:"
cat <<END
  sudo make install
  sudo portmap apply $rules    # add --persist to restore it after a reboot
  sudo portmap clear                   # to remove it
END
