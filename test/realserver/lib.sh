# Sourced by up.sh and ctl.sh: what is installed where, and how the two services of one
# directory are started, watched and stopped.
# shellcheck shell=bash

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { echo "realserver: $*" >&2; }

die() { # MESSAGE [LOG]
  say "error: $1"
  if [ -f "${2:-}" ]; then
    say "last lines of $2:"
    tail -n 30 "$2" >&2
  fi
  exit 1
}

load_dir() { # DIR: sets DIR, and the variables that up.sh wrote to DIR/env
  DIR=$(cd "${1:?DIR is missing}" 2>/dev/null && pwd) || die "no such directory: $1"
  [ -f "$DIR/env" ] || die "$DIR was not made by up.sh"
  # shellcheck source=/dev/null
  . "$DIR/env"
}

# --- what has to be installed

install_apt() { # PACKAGE...
  [ "$(id -u)" = 0 ] || die "please install: $*"
  say "installing $*"
  local policy=/usr/sbin/policy-rc.d made='' log rc=0
  if [ ! -e $policy ]; then # the package must not start a service of its own
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=1
  fi
  log=$(mktemp)
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
    >"$log" 2>&1 </dev/null || rc=$?
  [ -z "$made" ] || rm -f $policy
  [ $rc = 0 ] || die "apt-get could not install $*" "$log"
  rm -f "$log"
}

# --- processes: each service leads a group of its own, its id in DIR/NAME.pid

pid_of() { cat "$DIR/$1.pid" 2>/dev/null; }

alive() { # NAME: its leader exists and is no zombie
  local pid stat
  pid=$(pid_of "$1") && [ -n "$pid" ] || return 1
  stat=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) && [ "${stat%% *}" != Z ]
}

gone() { ! alive "$1"; }

launch() { # NAME COMMAND...: leads a new session, hence a group
  local name=$1
  shift
  setsid "$@" >>"$DIR/$name.log" 2>&1 </dev/null &
  echo $! >"$DIR/$name.pid"
}

signal_group() { # SIGNAL NAME
  local pid
  pid=$(pid_of "$2") && [ -n "$pid" ] && kill "-$1" -- "-$pid" 2>/dev/null
}

stop_service() { # NAME SECONDS: SIGTERM to the leader, then SIGKILL to what is left of the group
  [ -f "$DIR/$1.pid" ] || return 0
  signal_group CONT "$1" || true # a frozen process does not see SIGTERM
  kill -TERM "$(pid_of "$1")" 2>/dev/null || true
  wait_for "$2" gone "$1" || say "$1 did not stop in $2 s: killed"
  signal_group KILL "$1" || true
  rm -f "$DIR/$1.pid"
}

wait_for() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.2
  done
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# --- the broker

start_epmd() { # Erlang's name server: one of our own, so that two directories do not share one
  alive epmd && return 0
  ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$EPMD_PORT launch epmd epmd
  wait_for 10 port_open "$EPMD_PORT" || die "epmd does not answer" "$DIR/epmd.log"
}

start_broker() {
  alive broker && return 0
  start_epmd
  (
    cd "$DIR/rmq" || exit
    export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$EPMD_PORT
    export RABBITMQ_NODENAME=$NODE@localhost RABBITMQ_DIST_PORT=$DIST_PORT
    export RABBITMQ_MNESIA_BASE=$DIR/rmq/mnesia RABBITMQ_LOG_BASE=$DIR/rmq/log
    export RABBITMQ_CONFIG_FILE=$DIR/rmq/rabbitmq.conf RABBITMQ_CONF_ENV_FILE=$DIR/rmq/none
    export RABBITMQ_ENABLED_PLUGINS_FILE=$DIR/rmq/enabled_plugins
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
    # This variable makes the script exec the VM, so that the pid is the broker's.
    export RUNNING_UNDER_SYSTEMD=true
    launch broker env HOME="$DIR/rmq" "$RABBITMQ_SERVER"
  )
  # shellcheck disable=SC2317,SC2329 # called by wait_for
  open_or_dead() { port_open "$STOMP_PORT" || gone broker; }
  wait_for 60 open_or_dead || die "the broker did not open port $STOMP_PORT in 60 s" "$DIR/broker.log"
  alive broker || die "the broker ended" "$DIR/broker.log"
}

stop_broker() { stop_service broker 30; }

# --- the server

start_server() { # [--any]: an environment that failed to load will do
  alive server && return 0
  (
    cd "$DIR" || exit
    export PYTHONPATH=$HERE MPLBACKEND=Agg PYTHONDONTWRITEBYTECODE=1
    launch server "$BLUEAPI_CLI" -c "$DIR/server.yaml" serve
  )
  local rc=0
  # shellcheck disable=SC2317,SC2329 # called by wait_for
  ready_or_dead() {
    rc=0
    "$BLUEAPI_PY" -S "$HERE/ready.py" "$BLUEAPI_URL" "$@" || rc=$?
    [ "$rc" != 1 ] || gone server
  }
  wait_for 90 ready_or_dead "$@" || die "the server was not ready in 90 s" "$DIR/server.log"
  alive server || die "the server ended" "$DIR/server.log"
  [ "$rc" = 0 ] || die "the environment could not be loaded" "$DIR/server.log"
}

stop_server() { stop_service server 40; }

stop_all() {
  stop_server
  stop_broker
  stop_service epmd 2
}
