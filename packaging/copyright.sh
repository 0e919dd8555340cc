#!/bin/bash
# Print the paragraphs of debian/copyright for vendored crates, from what is in their
# directories: who holds the copyright, under which licence.
#
#   packaging/copyright.sh ARCHIVE_DIRECTORY >FILE
#
# Fails if a licence has no paragraph with its text in packaging/debian/copyright.
set -euo pipefail
cd "$1"

# One value of a manifest's [package]; cargo writes each on a line of its own.
field() { # NAME CRATE
    sed -n "/^\[package\]/,/^\[[^p]/s/^$1 = \"\(.*\)\"/\1/p" "$2/Cargo.toml" | head -n 1
}

# As the licence texts say, without the licences' own talk of copyright; otherwise the
# authors of the manifest.
holders() { # CRATE
    local found
    found=$(find "$1" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copy*' -o -iname 'notice*' \) |
        LC_ALL=C sort | while IFS= read -r file; do
        grep -aiE '^[[:space:]]*copyright[[:space:]]+(\(c\)|©|[0-9]{4}|[A-Z])' "$file" || true
    done | grep -viE 'licen|notice|owner|holder|statement|assignment|yyyy|Free Software Foundation' |
        sed -E 's/^[[:space:]]*copyright[[:space:]]+//I; s/^(\(c\)|©)[[:space:]]*//I; s/[[:space:].]+$//' |
        LC_ALL=C sort -u || true)
    if [ -z "$found" ]; then
        found=$(awk '/^authors = / { on = 1 } on { print } on && /\]/ { exit }' "$1/Cargo.toml" |
            grep -o '"[^"]*"' | tr -d '"' || true)
    fi
    printf '%s\n' "${found:-the authors of $2}"
}

# An SPDX expression in the words of Debian.
debian() {
    sed -e 's/^(\(.*\) OR \(.*\)) AND /\1 OR \2, AND /; s|/| OR |g; s/ WITH /-with-/g' \
        -e 's/\bMIT\b\(-0\)\{0,1\}/\n&/g; s/\nMIT-0/MIT-0/g; s/\nMIT/Expat/g' \
        -e 's/-or-later/+/g; s/LGPL-3\.0/LGPL-3/g; s/ OR / or /g; s/ AND / and /g'
}

for crate in vendor/*; do
    licence=$(field license "$crate" | debian)
    for one in $(sed 's/,\{0,1\} \(or\|and\) / /g' <<<"$licence"); do
        grep -qxF "License: $one" packaging/debian/copyright ||
            { echo "copyright: $crate is under $one, whose text is not in packaging/debian/copyright" >&2; exit 1; }
    done
    [ -n "$licence" ] || { echo "copyright: $crate names no licence" >&2; exit 1; }
    printf '\nFiles: %s/*\n' "$crate"
    holders "$crate" "$(field name "$crate")" | sed '1s/^/Copyright: /; 2,$s/^/ /'
    printf 'License: %s\n' "$licence"
done
