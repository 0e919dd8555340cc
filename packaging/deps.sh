#!/bin/bash
# Install what groups of targets need, and do nothing if it is installed already.
#
#   packaging/deps.sh [--check] build test lint boot deb rpm bench kernels memory big-endian
#
# With --check nothing is installed: what is missing is named, with the remedy.
# Packages come from the system's own package manager, through sudo when not root.
set -euo pipefail

here=$(dirname "$0")
rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/../Cargo.toml")

have() { command -v "$1" >/dev/null 2>&1; }

die() { printf '%s\n' "$@" >&2; exit 1; }

manager() {
    local m
    for m in apt-get dnf pacman zypper apk; do
        if have "$m"; then echo "$m"; return; fi
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif have sudo; then sudo "$@"
    else die "this needs root, and there is no sudo; as root run: $*"
    fi
}

# A group's packages, as each package manager calls them.
packages() {
    case "$1:$2" in
    build:apt-get) echo libnftnl-dev libmnl-dev pkg-config gcc libc6-dev ;;
    build:dnf)     echo libnftnl-devel libmnl-devel pkgconf-pkg-config gcc ;;
    build:pacman)  echo libnftnl libmnl pkgconf gcc ;;
    build:zypper)  echo libnftnl-devel libmnl-devel pkg-config gcc ;;
    build:apk)     echo libnftnl-dev libmnl-dev pkgconf gcc musl-dev ;;
    test:apt-get)  echo curl nftables iptables iproute2 conntrack strace util-linux zsh fish ;;
    test:dnf)      echo curl nftables iptables-nft iproute conntrack-tools strace util-linux zsh fish ;;
    test:pacman)   echo curl nftables iproute2 conntrack-tools strace util-linux zsh fish ;;
    test:zypper)   echo curl nftables iptables iproute2 conntrack-tools strace util-linux zsh fish ;;
    test:apk)      echo curl nftables iptables iproute2 conntrack-tools strace util-linux zsh fish ;;
    boot:apt-get)  echo debootstrap systemd-container util-linux ;;
    deb:apt-get)   echo dpkg-dev debhelper lintian xz-utils ;;
    rpm:apt-get)   echo rpm rpmlint cpio xz-utils ;;
    rpm:dnf)       echo rpm-build rpmlint systemd-rpm-macros xz ;;
    rpm:zypper)    echo rpm-build rpmlint systemd-rpm-macros xz ;;
    kernels:apt-get) echo qemu-system-x86 debootstrap busybox-static kmod e2fsprogs xz-utils zstd ;;
    memory:*)      echo valgrind bc ;;
    big-endian:apt-get) echo qemu-user-static gcc-s390x-linux-gnu libc6-dev-s390x-cross ;;
    bench:apt-get) echo nftables iptables iproute2 strace nginx-light libnginx-mod-stream haproxy rinetd socat ;;
    *) return 1 ;;
    esac
}

# True if the group's tools are installed.
present() {
    case "$1" in
    build) have cc && have pkg-config && pkg-config --exists 'libnftnl >= 1.2.4' 'libmnl >= 1.0.4' ;;
    test)  have curl && have nft && have iptables && have ip && have conntrack && have strace && have unshare && have zsh && have fish ;;
    boot)  have debootstrap && have systemd-nspawn ;;
    deb)   have dpkg-buildpackage && have dh && have lintian && have xz ;;
    rpm)   have rpmbuild && have rpmlint && have xz ;;
    kernels) have qemu-system-x86_64 && have debootstrap && have busybox && have depmod && have mkfs.ext4 && have xz && have zstd ;;
    memory) have valgrind && have bc ;;
    big-endian) have qemu-s390x-static && have s390x-linux-gnu-gcc ;;
    bench) have nft && have iptables && have ip && have strace && have nginx && have haproxy && have rinetd && have socat ;;
    esac
}

cargo_is_there() {
    have cargo || die \
        "cargo is missing: portmap is built with Rust $rust or later" \
        "install it with rustup, or from your distribution if its version is recent enough"
    local version
    version=$(cargo --version | sed 's/^cargo \([0-9]*\.[0-9]*\).*/\1/')
    [ "$(printf '%s\n' "$rust" "$version" | sort -V | head -n 1)" = "$rust" ] ||
        die "cargo is version $version, and portmap needs $rust or later: run \`rustup update stable\`"
}

# Packages of servers start them. Here they are installed without systemd and in
# namespaces, which end together with the installation and whatever it started,
# even if it is killed: nothing has to be put in place and removed again.
apt_without_services() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --download-only install --no-install-recommends "$@"
    # shellcheck disable=SC2016
    as_root unshare --mount --net --pid --fork --kill-child --mount-proc sh -c '
        if [ -d /run/systemd ]; then mount -t tmpfs tmpfs /run/systemd || exit 1; fi
        DEBIAN_FRONTEND=noninteractive exec apt-get -qq -y install --no-install-recommends "$@" >/dev/null' sh "$@"
}

install_through() { # MANAGER PACKAGE…
    local m=$1
    shift
    case "$m" in
    apt-get) as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$@" >/dev/null ;;
    dnf)     as_root dnf -q -y install "$@" ;;
    pacman)  as_root pacman -S --needed --noconfirm "$@" ;;
    zypper)  as_root zypper -q -n install "$@" ;;
    apk)     as_root apk add -q "$@" ;;
    esac
}

check=
if [ "${1:-}" = --check ]; then
    check=yes
    shift
fi

missing=()
for group in "$@"; do
    case "$group" in
    build) cargo_is_there ;;
    lint)
        cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
        cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
        continue ;;
    esac
    present "$group" || missing+=("$group")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ -n "$check" ]; then
    m=$(manager)
    names=$(for group in "${missing[@]}"; do packages "$group" "$m" || true; done)
    die "something that portmap is built with is missing: a C compiler, pkg-config, libnftnl 1.2.4 or libmnl 1.0.4" \
        "to install it: make deps${names:+ (as root, through $m: ${names//$'\n'/ })}"
fi

m=$(manager)
[ -n "$m" ] || die "no known package manager; install what \`packages\` in $0 lists for: ${missing[*]}"
[ "$m" != apt-get ] || as_root apt-get -qq update
for group in "${missing[@]}"; do
    read -ra names <<<"$(packages "$group" "$m")" || true
    [ ${#names[@]} -gt 0 ] || die "the tools for \`$group\` cannot be installed through $m: this target needs a Debian machine"
    echo "installing through $m: ${names[*]}"
    if [ "$group" = bench ]; then apt_without_services "${names[@]}"; else install_through "$m" "${names[@]}"; fi
    hash -r
    present "$group" || die "after the installation something for \`$group\` is still missing or too old: ${names[*]}"
done
