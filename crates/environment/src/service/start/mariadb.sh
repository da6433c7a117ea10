# <programs> <data> <addresses, commas> <port> <sockets> <user> <password> <database>: MariaDB or MySQL, whichever it is.
set -eu
PATH=$1:/usr/bin:/usr/sbin:$PATH data=$2 addresses=$3 port=$4 sockets=$5 user=$6 password=$7 database=$8
mkdir -p "$sockets"
server=$(command -v mariadbd || command -v mysqld)
if [ ! -d "$data/mysql" ]; then
  if command -v mariadb-install-db >/dev/null; then
    mariadb-install-db --no-defaults --datadir="$data" --auth-root-authentication-method=normal --skip-test-db >&2
  else
    "$server" --no-defaults --initialize-insecure --datadir="$data"
  fi
  printf "CREATE DATABASE IF NOT EXISTS \`%s\`;\nCREATE USER IF NOT EXISTS '%s'@'%%' IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO '%s'@'%%' WITH GRANT OPTION;\n" \
    "$database" "$user" "$password" "$user" >"$sockets/first.sql"
  set -- --init-file="$sockets/first.sql"
else
  set --
fi
exec "$server" --no-defaults --datadir="$data" --bind-address="$addresses" --port="$port" --socket="$sockets/mysql.sock" \
  --pid-file="$sockets/mysql.pid" --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=32M --skip-name-resolve "$@"
