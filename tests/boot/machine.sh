# A real Debian with a real systemd, in a container: sourced by the tests that
# boot one. Everything happens in a private network namespace, where the
# container's outer end of the cable is, so that this script is the client
# outside.
#
#   machine_new       a fresh copy of the system at $machine
#   machine_boot      boot it, and wait until it is up
#   machine_off       shut it down
#   inside COMMAND…   run a command in it
#
# MACHINE_PACKAGES names what else the system is to have, separated by commas.
#
# shellcheck shell=bash

top=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")

if [ "$(id -u)" != 0 ]; then
    echo "this boots a container, and needs root" >&2
    exit 1
fi
TARGET=${TARGET:-$top/target}
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
extra=${MACHINE_PACKAGES:-}
base=$TARGET/boot-base/$release${extra:+-${extra//,/-}}

# The system is made once, from wherever this machine has its own packages, and
# kept; it has what the binary links to, and a network that takes time to come.
make_base() {
    local where
    [ ! -e "$base/.complete" ] || return 0
    where=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        awk -v release="$release" '$1 == release { print $2; exit }')
    if [ -z "$where" ]; then
        echo "this test needs a Debian or Ubuntu machine, to make another one like it" >&2
        exit 1
    fi
    echo "making a $release, once"
    rm -rf "$base"
    mkdir -p "$base"
    debootstrap --variant=minbase \
        --include=systemd,systemd-sysv,dbus,nftables,iproute2,libnftnl11,libmnl0,man-db,rpm${extra:+,$extra} \
        "$release" "$base" "$where" >"$base.log" 2>&1 ||
        { tail -n 20 "$base.log" >&2; exit 1; }
    rm -rf "$base"/var/cache/apt/archives/*.deb
    touch "$base/.complete"
}

if [ "${PORTMAP_MACHINE:-}" != inside ]; then
    make_base
    exec env PORTMAP_MACHINE=inside "$top/packaging/private.sh" "$0" "$@"
fi

hello=$TARGET/release/hello
cable=ve-portmap
outside4=192.0.2.1 host4=192.0.2.10 outside6=2001:db8::1 host6=2001:db8::10

work=$(mktemp -d "$TARGET/boot.XXXXXX")
machine=$work/machine
nspawn='' leader=''
failures=0

cleanup() {
    [ -z "$nspawn" ] || { kill -KILL "$leader" "$nspawn" 2>/dev/null; wait "$nspawn" 2>/dev/null; }
    rm -rf "$work"
}
trap cleanup EXIT

say() { printf '\n%s\n' "$*"; }
pass() { printf '  ok    %s\n' "$*"; }
fail() { printf '  FAIL  %s\n' "$*"; failures=$((failures + 1)); }

# expect WHAT COMMAND…: the command succeeds; expect_not: it does not.
expect() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then pass "$what"; else fail "$what"; echo "        ${said//$'\n'/$'\n'        }"; fi
}
expect_not() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then fail "$what"; echo "        ${said//$'\n'/$'\n'        }"; else pass "$what"; fi
}

finish() {
    if [ "$failures" = 0 ]; then say "all held"; else say "$failures did not hold"; exit 1; fi
}

machine_new() {
    [ ! -e "$machine" ] || rm -rf "$machine"
    cp -a --reflink=auto "$base" "$machine"
    rm -f "$machine/.complete"
    mkdir -p "$machine/etc/portmap" "$machine/etc/systemd/network" "$machine/var/log/journal"
    cat >"$machine/etc/portmap/web.yaml" <<'END'
ports:
  80: 3000
END
    cat >"$machine/etc/systemd/network/10-host0.network" <<END
[Match]
Name=host0
[Network]
Address=$host4/24
Address=$host6/64
END
    # The server is an ordinary user's.
    echo 'app:x:1000:1000::/:/bin/false' >>"$machine/etc/passwd"
    install -m 755 "$hello" "$machine/usr/local/bin/hello"
    cat >"$machine/etc/systemd/system/hello.service" <<'END'
[Service]
User=app
ExecStart=/usr/local/bin/hello 3000
[Install]
WantedBy=multi-user.target
END
    # Somebody who looks at the last moment before there is a network.
    cat >"$machine/etc/systemd/system/witness.service" <<'END'
[Unit]
DefaultDependencies=no
After=network-pre.target local-fs.target
Before=systemd-networkd.service network.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'ip -brief address > /run/witness.addresses; nft list ruleset > /run/witness.ruleset'
[Install]
WantedBy=multi-user.target
END
    systemctl --quiet --root="$machine" enable hello.service witness.service \
        nftables.service systemd-networkd.service
}

machine_boot() {
    systemd-nspawn --quiet --boot --directory="$machine" --machine=portmap --register=no --keep-unit \
        --private-network --network-veth-extra="$cable:host0" --console=pipe \
        </dev/null >"$work/console" 2>&1 &
    nspawn=$!
    local _
    for _ in $(seq 100); do
        leader=$(pgrep -P "$nspawn" -x systemd || true)
        [ -z "$leader" ] || break
        sleep 0.1
    done
    if [ -z "$leader" ]; then
        echo "the container did not start:" >&2
        cat "$work/console" >&2
        exit 1
    fi
    ip address replace "$outside4/24" dev "$cable"
    ip address replace "$outside6/64" dev "$cable" nodad
    ip link set "$cable" up
    for _ in $(seq 300); do
        case "$(inside systemctl is-system-running 2>/dev/null)" in
        running) return ;;
        degraded)
            fail "the system came up without a failed unit"
            inside systemctl --failed --no-legend
            return ;;
        esac
        sleep 0.2
    done
    echo "the container did not come up:" >&2
    inside systemctl list-jobs >&2 || true
    inside journalctl -b --no-pager | tail -n 30 >&2 || true
    exit 1
}

machine_off() {
    kill -s RTMIN+4 "$leader"
    wait "$nspawn" || true
    nspawn='' leader=''
}

inside() {
    nsenter --target "$leader" --all --wdns=/ env -i \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root "$@"
}

# Within ten seconds.
eventually() {
    local _
    for _ in $(seq 100); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    "$@"
}
# Port 80 answers, for every kind of client.
answers() {
    local address
    for address in "127.0.0.1:80" "[::1]:80" "$host4:80" "[$host6]:80"; do
        inside hello get "$address" || { echo "no answer on this machine at $address"; return 1; }
    done
    for address in "$host4:80" "[$host6]:80"; do
        "$hello" get "$address" || { echo "no answer outside at $address"; return 1; }
    done
}
answers_anywhere() {
    inside hello get 127.0.0.1:80 || "$hello" get "$host4:80"
}

# When a unit last became active, in microseconds of the monotonic clock.
since() { inside systemctl show --value -p ActiveEnterTimestampMonotonic "$1"; }
before() { # UNIT UNIT
    local one two
    one=$(since "$1") two=$(since "$2")
    echo "$1 at $one us, $2 at $two us"
    [ "$one" -gt 0 ] && [ "$two" -gt 0 ] && [ "$one" -le "$two" ]
}
