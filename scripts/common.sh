# shellcheck shell=bash
# What the scripts share: the checkout, the server they work with, and how they speak. Sourced, never run.
#
# Which server: $PG_CONFIG if given, else Debian's PostgreSQL of the major version that we support. A pg_config of
# that version somewhere else in PATH comes second, so that a server built from source is found too.

set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo"
# shellcheck disable=SC2034
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

readonly supported_major=15
readonly debian_pg_config=/usr/lib/postgresql/$supported_major/bin/pg_config

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() { say "$*" >&2; exit 1; }

# Runs a command that needs root: as it is, through sudo, or not at all but said in words.
as_root() {
    if ((EUID == 0)); then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "this needs root, and there is no sudo here. As root, run: $*"
    fi
}

# "PostgreSQL 15.4 (Debian …)" or "PostgreSQL 16beta1" -> 15, 16. Nothing if the program is not there.
major_of() {
    local version
    version=$("$1" --version 2>/dev/null) || return 0
    [[ ! $version =~ ^PostgreSQL\ ([0-9]+) ]] || echo "${BASH_REMATCH[1]}"
}

if [[ -z ${PG_CONFIG:-} ]]; then
    PG_CONFIG=$debian_pg_config
    if [[ ! -x $PG_CONFIG && $(major_of pg_config) == "$supported_major" ]]; then
        PG_CONFIG=$(command -v pg_config)
    fi
fi
PG_MAJOR=$(major_of "$PG_CONFIG")
if [[ -z $PG_MAJOR && $PG_CONFIG =~ ^/usr/lib/postgresql/([0-9]+)/bin/pg_config$ ]]; then
    PG_MAJOR=${BASH_REMATCH[1]} # not installed yet; setup will
fi
[[ -n $PG_MAJOR ]] || die "PG_CONFIG=$PG_CONFIG does not run; it has to be the pg_config of a PostgreSQL installation"
export PG_CONFIG PG_MAJOR

# The cargo features that select this server; $PGQC_FEATURES adds others (scripts/fault-server).
# shellcheck disable=SC2034
features=(--no-default-features --features "pg$PG_MAJOR${PGQC_FEATURES:+,$PGQC_FEATURES}")

# Where cargo-pgrx keeps the pg_config that it builds against, and the one it has for our major version.
pgrx_settings=${PGRX_HOME:-$HOME/.pgrx}/config.toml
pgrx_pg_config() { sed -n "s/^ *pg$PG_MAJOR *= *\"\(.*\)\" *$/\1/p" "$pgrx_settings" 2>/dev/null || true; }

# Cargo builds against the server in pgrx's settings. Only if that is another one do we say so through the environment:
# the variable is part of the build's fingerprint, and a cargo command typed by hand would then build everything anew.
use_server_for_build() {
    local known
    known=$(pgrx_pg_config)
    [[ -n $known && $("$known" --includedir-server 2>/dev/null) == "$("$PG_CONFIG" --includedir-server)" ]] ||
        export PGRX_PG_CONFIG_PATH=$PG_CONFIG
}
