#!/bin/sh
# Installs those of the named Debian packages that are not there yet; says nothing and touches no
# network when all are. On other systems it names what is needed and lets the build find out.
set -eu

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "Not a Debian system: make sure that these (or their equivalents) are installed: $*" >&2
  exit 0
fi

# Lines "name ok"; unknown packages are reported on stderr and so count as missing.
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
missing=
for package in "$@"; do
  case "
$installed
" in
    *"
$package installed
"*) ;;
    *) missing="$missing $package" ;;
  esac
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "These packages are missing, and neither root nor sudo is at hand:$missing" >&2
    exit 1
  fi
  as_root="sudo"
fi

echo "Installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Runs a command quietly; what it said is shown only if it fails.
quietly() {
  $as_root env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    return 1
  }
}

# shellcheck disable=SC2086  # the list is meant to be split
install() { quietly apt-get install -qq -y --no-install-recommends $missing; }

# The package lists of a fresh container are empty, those of an old one may be stale.
if [ -z "$(find /var/lib/apt/lists -name '*_Packages*' -mtime -1 2>/dev/null | head -n 1)" ] ||
  ! install 2>/dev/null; then
  quietly apt-get update -qq -o Acquire::Retries=3
  install
fi
