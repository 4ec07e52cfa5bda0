#!/bin/bash
# Replaces the entrypoint of the postgres image: same variables, same user, a real server.
set -euo pipefail
data=/var/lib/postgresql/data
if [[ $(id -u) == 0 ]]; then
    chown postgres: "$data"
    chmod 0700 "$data"
    mkdir -p /run/postgresql
    chown postgres: /run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
fi
PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)"
if [[ ! -s $data/PG_VERSION ]]; then
    initdb --username="$POSTGRES_USER" --encoding=UTF8 --auth-local=trust \
        --auth-host=scram-sha-256 \
        --pwfile=<(echo "$POSTGRES_PASSWORD") --pgdata="$data" >/dev/null
    postgres --single -D "$data" postgres <<<"CREATE DATABASE $POSTGRES_DB" >/dev/null
fi
exec "$@" -D "$data"
