# <program> <data> <address> <port>: the sandbox around it is this one; it has no other.
exec "$1" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update \
  --disable-sync --disable-dev-shm-usage --user-data-dir="$2" --remote-debugging-address="$3" --remote-debugging-port="$4" about:blank
