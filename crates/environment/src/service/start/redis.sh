# <program> <data> <addresses, spaces> <port>
set -eu
program=$1 data=$2 addresses=$3 port=$4
# Addresses are words of their own.
# shellcheck disable=SC2086
exec "$program" --dir "$data" --bind $addresses --port "$port" --protected-mode no --save 60 1 --appendonly no --daemonize no
