#!/bin/bash
# Say so where what was built names nobody who could be written to: as the last words of a build,
# for its others are many.
set -euo pipefail

# shellcheck source=publisher
. "$(dirname "$0")/publisher"
case "$MAINTAINER$HOMEPAGE" in
*.invalid*)
    echo "warning: it names no maintainer and no homepage, only placeholders: before you publish it," \
        "fill in packaging/publisher" >&2
    ;;
esac
