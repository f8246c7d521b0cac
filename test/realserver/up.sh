#!/bin/bash
# Install (the first time) and start a real blueapi server and a RabbitMQ broker on loopback.
#   eval "$(./up.sh [--owner PID] [DIR])"
# With --owner everything is stopped when that process ends, however it ends.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

owner=
if [ "${1:-}" = --owner ]; then owner=${2:?--owner needs a process id} && shift 2; fi

VERSION=${BLUEAPI_VERSION:-1.21.1}
VENV=${REALSERVER_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/adamant-realserver/venv}

find_rabbitmq() { # not the wrapper in PATH: that one insists on a user of its own
  local f
  for f in /usr/lib/rabbitmq/bin/rabbitmq-server /usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server; do
    if [ -x "$f" ]; then RABBITMQ_SERVER=$f && return; fi
  done
  return 1
}

find_python() {
  local p
  for p in python3.11 /usr/bin/python3.11 python3 /usr/bin/python3; do
    if "$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$p && return; fi
  done
  return 1
}

install_blueapi() {
  local have python pins=()
  have=$("$VENV/bin/python" -c 'from importlib.metadata import version as v; print(v("blueapi"))' 2>/dev/null || true)
  [ "$have" != "$VERSION" ] || [ ! -f "$VENV/complete" ] || return 0
  find_python || { install_apt python3 && find_python; } || die "Python 3.11 or newer was not found"
  "$python" -c 'import ensurepip' 2>/dev/null || install_apt python3-venv
  say "installing blueapi $VERSION (some minutes)"
  rm -rf "$VENV" && "$python" -m venv "$VENV" >&2
  [ "$VERSION" != 1.21.1 ] || pins=(-c "$HERE/constraints.txt")
  "$VENV/bin/pip" install -q --disable-pip-version-check "${pins[@]}" "blueapi[demo]==$VERSION" >"$VENV/pip.log" 2>&1 ||
    die "pip could not install blueapi $VERSION" "$VENV/pip.log"
  touch "$VENV/complete"
}

free_ports() { # five; below the ephemeral range, so that no outgoing connection takes one during a restart
  "$VENV/bin/python" - "${BLUEAPI_PORT:-0}" "${STOMP_PORT:-0}" 0 0 0 <<'PY'
import random, socket, sys
held = []
for arg in sys.argv[1:]:
    while True:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", int(arg) or random.randrange(20000, 32000)))
            held.append(s)
            break
        except OSError as e:
            if arg != "0":
                sys.exit(f"port {arg} cannot be used: {e}")
print(*(s.getsockname()[1] for s in held))
PY
}

configure() {
  local ports http stomp amqp dist epmd
  ports=$(free_ports) || die "no ports"
  read -r http stomp amqp dist epmd <<<"$ports"
  mkdir -p "$DIR/rmq"
  cat >"$DIR/rmq/rabbitmq.conf" <<CONF
stomp.listeners.tcp.1 = 127.0.0.1:$stomp
listeners.tcp.1 = 127.0.0.1:$amqp
loopback_users = none
CONF
  echo '[rabbitmq_stomp].' >"$DIR/rmq/enabled_plugins"
  cat >"$DIR/client.yaml" <<CONF
api:
  url: http://127.0.0.1:$http
stomp:
  enabled: true
  auth:
    username: guest
    password: guest
  url: tcp://127.0.0.1:$stomp/
CONF
  cat - "$DIR/client.yaml" >"$DIR/server.yaml" <<'CONF'
env:
  metadata:
    instrument: demo
  sources:
    - kind: deviceManager
      module: blueapi.tutorial.devices
    - kind: planFunctions
      module: dodal.plans
    - kind: planFunctions
      module: dodal.plan_stubs.wrapped
    - kind: planFunctions
      module: adamant_plans
CONF
  cat >"$DIR/env.new" <<CONF
BLUEAPI_URL=http://127.0.0.1:$http
STOMP_URL=tcp://127.0.0.1:$stomp
REALSERVER_DIR=$(printf %q "$DIR")
BLUEAPI_PY=$(printf %q "$VENV/bin/python")
BLUEAPI_CLI=$(printf %q "$VENV/bin/blueapi")
CLIENT_CONFIG=$(printf %q "$DIR/client.yaml")
STOMP_PORT=$stomp
DIST_PORT=$dist
EPMD_PORT=$epmd
NODE=real$dist
RABBITMQ_SERVER=$RABBITMQ_SERVER
CONF
  mv "$DIR/env.new" "$DIR/env"
}

find_rabbitmq || { install_apt rabbitmq-server && find_rabbitmq; } || die "rabbitmq-server was not found"
# For outages in the kernel, which only root can make; the tests can do without.
if [ "$(id -u)" = 0 ] && [ ! -x /usr/sbin/nft ]; then install_apt nftables; fi
mkdir -p "$(dirname "$VENV")"
(
  flock 9 # two up.sh at a time: the second waits for the installation of the first
  install_blueapi
) 9>"$(dirname "$VENV")/lock"

if [ $# -gt 0 ]; then mkdir -p "$1" && DIR=$(cd "$1" && pwd); else DIR=$(mktemp -d -t realserver.XXXXXX); fi
[ -f "$DIR/env" ] || configure
load_dir "$DIR"
trap 'rc=$?; [ $rc = 0 ] || stop_all' EXIT
if [ -n "$owner" ]; then
  # It has a group of its own, so that whatever ends the owner's does not end it.
  # shellcheck disable=SC2016 # expanded by the inner shell
  launch owner bash -c 'while kill -0 "$1" 2>/dev/null; do sleep 1; done; exec "$2" "$3" down' \
    owner "$owner" "$HERE/ctl.sh" "$DIR"
fi
start_broker
# shellcheck disable=SC2119 # no --any here
start_server
say "blueapi $VERSION at $BLUEAPI_URL, broker at $STOMP_URL, files in $DIR"
head -n 6 "$DIR/env"
