# <programs> <data> <address> <port>
set -eu
PATH=$1:$PATH
export RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_MNESIA_BASE="$2/mnesia" RABBITMQ_LOG_BASE="$2/log" RABBITMQ_LOGS=-
export RABBITMQ_NODE_IP_ADDRESS="$3" RABBITMQ_NODE_PORT="$4" RABBITMQ_CONFIG_FILE="$2/none" RABBITMQ_ENABLED_PLUGINS_FILE="$2/plugins"
export HOME="$2" RABBITMQ_PID_FILE="$2/pid"
exec rabbitmq-server
