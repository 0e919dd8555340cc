#!/bin/bash
# Write what is counted in docs/trust.md, between its marks: what is checked, how far, and when last.
# No figure there is typed by hand: they come from the sources, from Cargo.lock, from docs/kernels.md,
# from tests/records, where targets such as `make walk`, `make faults` and `make fuzz` leave theirs, and
# from the program that was built last.
set -euo pipefail
cd "$(dirname "$0")/.."
records=tests/records

# field FILE KEY: a value of a record.
field() { sed -n "s/^ *\"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$records/$1.json" | head -n 1; }
thousands() { sed ':a;s/\B[0-9]\{3\}\>/,&/;ta' <<<"$1"; }
missing() { [ ! -e "$records/$1.json" ] && printf 'There is no record yet: `make %s` writes one.\n' "$1"; }

unsafe_code() {
    local total files forbidden outside
    total=$(unsafe_in src/*.rs $(find src -mindepth 2 -name '*.rs') | awk '{n += $2} END {print n + 0}')
    files=$(unsafe_in $(find src -name '*.rs') | wc -l)
    outside=$(unsafe_in $(find src -name '*.rs' -not -path 'src/kernel/*') | wc -l)
    forbidden=$(grep -rl 'forbid(unsafe_code)' src --include='*.rs' | wc -l)
    echo "$total unsafe blocks, functions and implementations, in $files files, of which $outside are not below \`src/kernel/\`. In $forbidden files unsafe code is forbidden for themselves and all below them."
    echo
    echo "| file | unsafe |"
    echo "|---|---|"
    unsafe_in $(find src -name '*.rs' | sort) | sed 's/^\(.*\) \(.*\)$/| `\1` | \2 |/'
}

# unsafe_in FILE…: each file that has any, and how much; comments do not count.
unsafe_in() {
    local file n
    for file in "$@"; do
        n=$(sed 's|//.*||' "$file" | grep -oE '\bunsafe (\{|fn|impl|extern)' | wc -l)
        [ "$n" = 0 ] || echo "$file $n"
    done | sort -u
}

fuzzing() {
    local record target
    if ! ls "$records"/fuzz-*.json >/dev/null 2>&1; then
        echo 'There is no record yet: `make fuzz` writes one for each target.'
        return
    fi
    echo "| target | executions | edges | seconds | on commit |"
    echo "|---|---|---|---|---|"
    for record in "$records"/fuzz-*.json; do
        target=$(basename "$record" .json)
        echo "| ${target#fuzz-} | $(thousands "$(field "$target" executions)") | $(thousands "$(field "$target" edges)") | $(thousands "$(field "$target" seconds)") | $(field "$target" commit) |"
    done
}

# A long walk is kept under the name of its commit beside the last one.
walk() {
    missing walk && return
    echo "| steps | connections | seconds | on commit |"
    echo "|---|---|---|---|"
    local record
    for record in "$records"/walk*.json; do
        record=$(basename "$record" .json)
        echo "| $(thousands "$(field "$record" steps)") | $(thousands "$(field "$record" connections)") | $(thousands "$(field "$record" seconds)") | $(field "$record" commit) |"
    done
}

# Records from before kills were counted apart do not tell how many there were.
faults() {
    missing faults && return
    local counts tried possible sample
    counts=$(sed -n 's/^ *"\([^"]*\)": \([0-9]*\),\{0,1\}$/\2 \1/p' "$records/faults.json" | grep -v ' possible$')
    tried=$(grep -v ' killed: ' <<<"$counts" | awk '{n += $1} END {print n}')
    possible=$(field faults possible)
    sample=
    [ "$tried" -ge "$possible" ] || sample=", drawn by chance,"
    echo "$(thousands "$tried") of $(thousands "$possible") possible disturbances$sample were tried, and all of them survived, on commit $(field faults commit), by \`make faults\`."
    echo
    if grep -q ' killed: ' <<<"$counts"; then
        echo "| command | errors and shortages survived | kills survived |"
        echo "|---|---|---|"
        awk '{n = $1; sub(/^[0-9]+ /, "")} sub(/^killed: /, "") {kills[$0] = n; next} {all[++k] = $0; count[$0] = n}
            END {for (i = 1; i <= k; i++) print "| " all[i] " | " count[all[i]] - kills[all[i]] " | " kills[all[i]] + 0 " |"}' <<<"$counts"
    else
        echo "| command | errors, shortages and kills survived |"
        echo "|---|---|"
        sed 's/^\([0-9]*\) \(.*\)$/| \2 | \1 |/' <<<"$counts"
    fi
}

kernels() {
    echo "Boots with the program and its tests, by \`make test-kernels\`; all of what is counted held."
    echo
    sed -n '/^|/p' docs/kernels.md
}

# What a unit is still charged with, and why it stays so. It is an error where a reason
# is missing: either the unit or this list is to be changed.
reasons='User=/DynamicUser=|root owns the state directory and the rules files; with one capability at most it is no more than another user, but for its own files
RootDirectory=/RootImage=|it looks at rules files, users and other processes of this host; an example uses the programs of this host
PrivateNetwork=|the network is what it is for
PrivateUsers=|the capability has to count in the network namespace, which belongs to the users of this host
CapabilityBoundingSet=~CAP_NET_ADMIN|the kernel asks for it with every change of its rules
AmbientCapabilities=|it is the way of the capability to portmap without root; portmap passes none on
RestrictAddressFamilies=~AF_NETLINK|the rules are in netlink
RestrictAddressFamilies=~AF_UNIX|the log, systemd and name services are reached through these
RestrictAddressFamilies=~AF_(INET|INET6)|it serves clients
IPAddressDeny=|it serves clients of any address
ProcSubset=|portmap reads /proc/net and /proc/sys/net; Node.js reads /proc/stat
SystemCallFilter=~@privileged|of these only capset(2), with which portmap gives its capability up
MemoryDenyWriteExecute=|the JavaScript engine compiles at run time
DeviceAllow=|systemd adds the clock to read, for ProtectClock=yes'

units() {
    local unit level charges charge
    command -v systemd-analyze >/dev/null && systemd-analyze security --help | grep -q offline || {
        echo "Not measured: there is no systemd-analyze that does it without booting (systemd 250)."
        return
    }
    echo "| unit | exposure, 0 to 10 | charged with |"
    echo "|---|---|---|"
    for unit in packaging/systemd/*.service packaging/examples/*.service; do
        level=$(analyze "$unit" | sed -n 's/.* exposure level for .*: \([0-9.]* [A-Z]*\).*/\1/p')
        charges=$(analyze "$unit" | sed -n 's/^✗ \([^ ]*\) .*/\1/p' | sort)
        while read -r charge; do
            grep -qF -- "$charge|" <<<"$reasons" || { echo "$unit: no reason for $charge" >&2; return 1; }
        done <<<"$charges"
        echo "| \`$unit\` | $level | $(sed 's/.*/`&`/; s/|/\\|/g' <<<"$charges" | paste -sd , | sed 's/,/, /g') |"
    done
    echo
    echo "| what it is charged with | why it stays |"
    echo "|---|---|"
    sed 's/^\([^|(]*\(([^)]*)\)\{0,1\}\)|\(.*\)$/\1\t\3/; s/|/\\|/g; s/^\(.*\)\t\(.*\)$/| `\1` | \2 |/' <<<"$reasons"
}

analyze() { systemd-analyze security --offline=yes --no-pager "$1"; }

# crates EDGES: each crate that these lead to, its version, and its licence.
crates() {
    cargo tree --locked --offline --edges "$1" --prefix none --format '{p}|{l}' | grep -v '^portmap-nft ' |
        sed 's/ (\*)$//; s/ (proc-macro)//' | sort -u
}
count() { wc -l <<<"$1"; }

dependencies() {
    local linked built all twice
    linked=$(crates normal,no-proc-macro) built=$(crates normal,build) all=$(crates normal,build,dev)
    echo "| what | crates |"
    echo "|---|---|"
    echo "| linked in | $(count "$linked") |"
    echo "| what the program is built from, with macros and build scripts | $(count "$built") |"
    echo "| in all, with those of tests | $(count "$all") |"
    echo
    twice() { cut -d'|' -f1 <<<"$1" | cut -d' ' -f1 | uniq -d | paste -sd , | sed 's/,/, /g'; }
    echo "In the program more than once: $(twice "$linked" | sed 's/^$/none/'). In macros or tests: $(twice "$all" | sed 's/^$/none/')."
    echo
    missing supply && return
    echo "\`$(field supply tool)\` found nothing to object to ($(field supply checks)$(advisories)), on commit $(field supply commit), by \`make supply\`."
}

# As of which day.
advisories() {
    local day
    day=$(field supply advisories)
    [ -z "$day" ] || echo "; the database of advisories is that of $day"
}

arm64() {
    missing check-arm64 && return
    echo "That went well on commit $(field check-arm64 commit), with Rust $(field check-arm64 rust)."
}

# In a network of its own. The middle one of many.
confinement() {
    local program build
    for build in release debug; do
        program=$(realpath -m "${CARGO_TARGET_DIR:-target}/$build/portmap")
        [ ! -x "$program" ] || break
    done
    if [ ! -x "$program" ]; then
        echo "Not measured: the program is not built."
        return
    fi
    # shellcheck disable=SC2016
    packaging/private.sh bash -c 'for i in $(seq 51); do "$1" -v --state-dir /run/portmap-trust status 2>&1; done' sh "$program" |
        sed -n 's/^confine: \([0-9.]*\) ms$/\1/p' | sort -n |
        awk -v build="$build" -v kernel="$(uname -r | cut -d. -f1,2)" -v processors="$(nproc)" '{took[NR] = $1}
            END {
                if (!NR) { print "Not measured: the kernel confines nothing here."; exit }
                if (build == "debug") build = "build without optimisation"; else build = build " build"
                print "It took " took[int((NR + 1) / 2)] " ms, the middle one of " NR " times, with a " build " on a machine with " processors " processors, Linux " kernel "."
            }'
}

licences() {
    echo "| licence | crates that are linked in |"
    echo "|---|---|"
    crates normal,no-proc-macro | cut -d'|' -f2 | sort | uniq -c | sort -k1,1nr -k2 | sed 's/^ *\([0-9]*\) \(.*\)$/| \2 | \1 |/'
}

tests=$(grep -rhE '^ *#\[test\]' src tests --include='*.rs' | wc -l)
lines() { find "$@" -name '*.rs' -print0 | xargs -0 cat | wc -l; }
commit=$(git describe --always --dirty --exclude='*')
kernel_table=$(kernels)
units=$(units)
licences=$(licences)
dependencies=$(dependencies || true)
confinement=$(confinement)
counted=$(mktemp)
trap 'rm -f "$counted"' EXIT
cat >"$counted" <<X
<!-- counted -->

From here on, all is written by \`make trust-report\` on commit $commit. Every figure is counted, or taken from the record of a run, with the commit that it is of.

$(thousands "$(lines src)") lines of Rust, held by $(thousands "$tests") tests ($(thousands "$(lines tests)") lines).

## Unsafe code

$(unsafe_code)

## Fuzzing

Rules files, arguments, files of the history, what /proc and the files of a host say, and all that the kernel answers or tells (our table, everybody's rules, sockets, connection tracking, traced packets, commits) are replaced by bytes at random, with the address sanitizer. Nothing may crash; what is accepted must be written and read back as the same.

$(fuzzing || true)

## A random walk

Commands, killed commands, reboots, a guard that comes and goes, and other programs' doings, in portmap's own table too, follow each other by chance on a real kernel. Changes are shown by \`plan\` and \`--dry-run\` before they are made. After each step the kernel, the history and every answer must be the model's, and were.

$(walk || true)

## Faults

What can be done to each command of the table: a system call fails, in each way that its manual page names and that a program can be expected to meet, and from the 21st call of a kind on in one of them; a command that changes something is killed before a call that leaves something behind; it runs short of the size of files, of descriptors or of memory. One of these at a time. The exit code must tell the effect, the kernel and the history must agree, and the next command must go on.

$(faults || true)

## Kernels

$kernel_table

## Units of systemd

What a service could do that it has no need for, as \`systemd-analyze security\` of systemd $(systemd-analyze --version | sed -n 's/^systemd \([0-9]*\).*/\1/p') counts it without booting. \`make test-boot\` boots a machine with those of portmap and the example \`app-run\`; a test lets systemd verify the other one.

$units

## Crates and licences

$dependencies

$licences

## 64-bit Arm

\`make check-arm64\` compiles the library and the program for it, without linking them. $(arm64 || true)

## The price of confinement

\`portmap -v\` says how long it takes to give up what a command does not need. $confinement

<!-- /counted -->
X
sed -i -e '/^<!-- counted -->$/,/^<!-- \/counted -->$/d' docs/trust.md
cat "$counted" >>docs/trust.md
echo "docs/trust.md is written"
