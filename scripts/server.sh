# shellcheck shell=bash
# A private server for a script, that lives no longer than it. Sourced after common.sh, never run.
#
#   private_place NAME       a folder in /tmp, $place, for the server and all that it has to read or write
#   start_server <SETTINGS   a new cluster, socket only, with the settings from the standard input added
#   stop_server              ends it and forgets its data; another may be started
#   server COMMAND …         runs a command as the operating system's user that the server runs as
#   sql DATABASE COMMAND     one command as the superuser
#
# Where the server's log goes at the end is up to whoever sources this, who sets server_log to a file.

# PostgreSQL refuses to run as root.
as_server=()
if ((EUID == 0)); then
    id postgres >/dev/null 2>&1 || die "PostgreSQL does not run as root, and there is no user postgres"
    as_server=(runuser -u postgres --)
fi
server() { (cd / && "${as_server[@]}" "$@"); }

bindir=$("$PG_CONFIG" --bindir)
place=
log=
server_log=

# In /tmp: the user postgres may enter it, and a socket's path has to be short.
private_place() {
    place=$(server mktemp -d "/tmp/pgqc-$1.XXXXXX")
    log=$place/server.log
    trap leave EXIT
    trap 'exit 130' INT TERM HUP
}

start_server() {
    local data=$place/data
    server "$bindir/initdb" -D "$data" --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync \
        --no-instructions >/dev/null
    {
        cat <<SETTINGS
listen_addresses = ''
unix_socket_directories = '$place'
port = 5432
max_prepared_transactions = 32
log_line_prefix = '%m [%p] %b %q%a '
fsync = off
SETTINGS
        cat
    } | server tee -a "$data/postgresql.conf" >/dev/null
    server "$bindir/pg_ctl" start -D "$data" -l "$log" -s -w >/dev/null || {
        cat "$log"
        die "the server did not start"
    }
}

stop_server() {
    local data=$place/data
    if [[ -f $data/postmaster.pid ]]; then
        server "$bindir/pg_ctl" stop -D "$data" -s -m fast -t 30 || server "$bindir/pg_ctl" stop -D "$data" -s -m immediate
    fi
    if [[ -f $log && -n $server_log ]]; then
        mkdir -p "$(dirname "$server_log")"
        cp "$log" "$server_log"
    fi
    rm -rf "$data" "$log"
}

# shellcheck disable=SC2317
leave() {
    local status=$?
    trap - EXIT
    stop_server
    rm -rf "$place"
    exit "$status"
}

sql() { "$bindir/psql" -X -q -h "$place" -U postgres -d "$1" -v ON_ERROR_STOP=1 -c "$2"; }

# What no server may ever say.
died() { grep -E 'PANIC|TRAP:|was terminated by signal' "$1"; }

# What the user's shell sets for psql and for messages must not show in the results.
unset PGOPTIONS PGSERVICE PGSERVICEFILE PGDATABASE PGUSER PGPASSWORD PGSSLMODE PGDATA
export LC_ALL=C.UTF-8
