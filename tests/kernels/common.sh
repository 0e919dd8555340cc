# Sourced by all scripts here. WORK is where everything large goes.
# shellcheck shell=bash
set -euo pipefail
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
SOURCE=$(realpath "$here/../..")
WORK=$(realpath -m "${WORK:-$SOURCE/target/kernels}")
# The package mirror that this machine uses, whatever it is.
MIRROR=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)}
KEYRING=${KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
mkdir -p "$WORK/logs"

# apt for another release, which leaves this machine's package lists alone.
private_apt() { # SUITE COMMAND ARGUMENT…
    local suite=$1 d=$WORK/apt/$1 tool=$2
    shift 2
    local options=(-o Dir::Etc="$d/etc" -o Dir::Etc::parts=/etc/apt/apt.conf.d -o Dir::State="$d/state"
        -o Dir::State::status="$d/dpkg-status" -o Dir::Cache="$d/cache"
        -o Acquire::Languages=none -o APT::Sandbox::User=root)
    if [ ! -e "$d/complete" ]; then
        mkdir -p "$d"/etc/{preferences.d,sources.list.d} "$d"/state/lists/partial "$d"/cache/archives/partial
        touch "$d/dpkg-status"
        echo "deb [signed-by=$KEYRING] $MIRROR $suite main" >"$d/etc/sources.list"
        apt-get "${options[@]}" -qq update
        touch "$d/complete"
    fi
    "$tool" "${options[@]}" "$@"
}
