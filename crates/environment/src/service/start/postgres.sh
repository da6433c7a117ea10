# <programs> <data> <addresses, commas> <port> <sockets> <user> <database>
# Nothing here has to survive a power failure: what an environment holds goes with it. Small WAL files make a copy of
# the data directory cheap: the one in use is all that is written when a server starts over it.
set -eu
PATH=$1:$PATH data=$2 addresses=$3 port=$4 sockets=$5 user=$6 database=$7
mkdir -p "$sockets"
if [ ! -s "$data/PG_VERSION" ]; then
  initdb -D "$data" -U "$user" --auth=trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions --wal-segsize=1
  printf 'host all all all trust\n' >>"$data/pg_hba.conf"
  if [ "$database" != postgres ]; then
    printf 'CREATE DATABASE "%s" OWNER "%s"\n' "$database" "$user" |
      postgres --single -D "$data" -c fsync=off postgres >/dev/null
  fi
fi
rm -f "$data/postmaster.pid"
exec postgres -D "$data" -k "$sockets" -p "$port" -c listen_addresses="$addresses" \
  -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=32MB -c log_destination=stderr \
  -c logging_collector=off -c update_process_title=off
