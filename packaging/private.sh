#!/bin/bash
# Run a command in a network namespace of its own, where it cannot change the
# machine's own network.  Needs no root if the kernel allows unprivileged user
# namespaces.
#
#   packaging/private.sh COMMAND [ARGUMENT…]
set -euo pipefail

flags=(--net --mount --propagation private)
[ "$(id -u)" = 0 ] || flags+=(--user --map-root-user)

if ! why=$(unshare "${flags[@]}" true 2>&1); then
    {
        echo "cannot make a private network namespace: $why"
        if [ "$(id -u)" = 0 ]; then
            echo "this looks like a container without CAP_SYS_ADMIN: run it on the machine itself, or in a"
            echo "container started with --privileged"
        else
            knobs=()
            [ ! -e /proc/sys/kernel/unprivileged_userns_clone ] ||
                knobs+=(kernel.unprivileged_userns_clone=1)
            [ ! -e /proc/sys/kernel/apparmor_restrict_unprivileged_userns ] ||
                knobs+=(kernel.apparmor_restrict_unprivileged_userns=0)
            [ "$(cat /proc/sys/user/max_user_namespaces 2>/dev/null)" != 0 ] ||
                knobs+=(user.max_user_namespaces=10000)
            if [ ${#knobs[@]} -gt 0 ]; then
                echo "this system does not allow them to ordinary users; to allow them until the next boot:"
                echo "  sudo sysctl ${knobs[*]}"
            fi
            echo "or run it as root"
        fi
    } >&2
    exit 1
fi

# /run is replaced, so that tools that keep a lock or names of namespaces there work
# without root and leave nothing behind.
exec unshare "${flags[@]}" bash -c '
    mount -t tmpfs tmpfs /run 2>/dev/null
    ip link set lo up
    exec "$@"' private "$@"
