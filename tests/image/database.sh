#!/bin/bash
# Stands for the entrypoint of the postgres image: the same variables, the same user, a real server.
set -euo pipefail
export PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)"
data=/var/lib/postgresql/data
chown postgres: "$data"
chmod 0700 "$data"
mkdir -p /run/postgresql
chown postgres: /run/postgresql
as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups --)
if [[ ! -s $data/PG_VERSION ]]; then
    "${as_postgres[@]}" initdb --username="$POSTGRES_USER" --auth-local=trust --auth-host=scram-sha-256 \
        --pwfile=<(echo "$POSTGRES_PASSWORD") --pgdata="$data" >/dev/null
    "${as_postgres[@]}" postgres --single -D "$data" postgres <<<"CREATE DATABASE $POSTGRES_DB" >/dev/null
fi
exec "${as_postgres[@]}" "$@" -D "$data"
