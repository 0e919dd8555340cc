#!/bin/bash
# Install what a group of targets needs, and do nothing where it is there.
#
#   packaging/deps.sh build test lint boot deb rpm packages
#
# Packages come from the system's own package manager, through sudo when not
# root; the two cargo subcommands that make packages are installed by cargo.
set -euo pipefail

CARGO_DEB=3.8.0
CARGO_GENERATE_RPM=0.21.0

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

# The names one kind of thing goes by in each package manager's repository.
packages() {
    case "$1:$2" in
    build:apt-get) echo libnftnl-dev libmnl-dev pkg-config gcc libc6-dev ;;
    build:dnf)     echo libnftnl-devel libmnl-devel pkgconf-pkg-config gcc ;;
    build:pacman)  echo libnftnl libmnl pkgconf gcc ;;
    build:zypper)  echo libnftnl-devel libmnl-devel pkg-config gcc ;;
    build:apk)     echo libnftnl-dev libmnl-dev pkgconf gcc musl-dev ;;
    test:apt-get)  echo nftables iptables iproute2 conntrack strace util-linux ;;
    test:dnf)      echo nftables iptables-nft iproute conntrack-tools strace util-linux ;;
    test:pacman)   echo nftables iproute2 conntrack-tools strace util-linux ;;
    test:zypper)   echo nftables iptables iproute2 conntrack-tools strace util-linux ;;
    test:apk)      echo nftables iptables iproute2 conntrack-tools strace util-linux ;;
    boot:apt-get)  echo debootstrap systemd-container util-linux ;;
    deb:apt-get)   echo dpkg-dev lintian ;;
    rpm:apt-get)   echo rpm rpmlint ;;
    rpm:dnf)       echo rpm-build rpmlint ;;
    rpm:zypper)    echo rpm-build rpmlint ;;
    *) return 1 ;;
    esac
}

# True when the group's things are there already.
present() {
    case "$1" in
    build) have cc && have pkg-config && pkg-config --exists 'libnftnl >= 1.2.4' 'libmnl >= 1.0.4' ;;
    test)  have nft && have iptables && have ip && have conntrack && have strace && have unshare ;;
    boot)  have debootstrap && have systemd-nspawn ;;
    deb)   have dpkg-deb && have dpkg-shlibdeps && have lintian ;;
    rpm)   have rpm && have rpmlint ;;
    esac
}

cargo_is_there() {
    have cargo || die \
        "cargo is missing: portmap is built with Rust 1.88 or later" \
        "install it with rustup, or from your distribution where it is new enough"
    local version
    version=$(cargo --version | sed 's/^cargo \([0-9]*\.[0-9]*\).*/\1/')
    [ "$(printf '%s\n' 1.88 "$version" | sort -V | head -n 1)" = 1.88 ] ||
        die "cargo is $version, and portmap needs 1.88 or later: run \`rustup update stable\`"
}

cargo_tool() {
    [ "$("$1" --version 2>/dev/null | grep -o '[0-9.]*$' | head -n 1)" = "$2" ] ||
        cargo install --locked "$1@$2"
}

missing=()
for group in "$@"; do
    case "$group" in
    build) cargo_is_there ;;
    lint)
        cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
        cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
        continue ;;
    packages) continue ;;
    esac
    present "$group" || missing+=("$group")
done

if [ ${#missing[@]} -gt 0 ]; then
    m=$(manager)
    [ -n "$m" ] || die "no package manager known here; install what \`packages\` in $0 lists for: ${missing[*]}"
    names=()
    for group in "${missing[@]}"; do
        read -ra these <<<"$(packages "$group" "$m")" || true
        [ ${#these[@]} -gt 0 ] || die "the tools for \`$group\` cannot be installed through $m; this target needs a Debian machine"
        names+=("${these[@]}")
    done
    echo "installing through $m: ${names[*]}"
    case "$m" in
    apt-get)
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${names[@]}" >/dev/null ;;
    dnf)    as_root dnf -q -y install "${names[@]}" ;;
    pacman) as_root pacman -S --needed --noconfirm "${names[@]}" ;;
    zypper) as_root zypper -q -n install "${names[@]}" ;;
    apk)    as_root apk add -q "${names[@]}" ;;
    esac
    hash -r
    for group in "${missing[@]}"; do
        present "$group" || die "installed, and yet something of \`$group\` is missing or too old: ${names[*]}"
    done
fi

for group in "$@"; do
    case "$group" in
    deb) cargo_tool cargo-deb "$CARGO_DEB" ;;
    rpm) cargo_tool cargo-generate-rpm "$CARGO_GENERATE_RPM" ;;
    esac
done
