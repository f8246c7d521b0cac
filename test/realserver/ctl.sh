#!/bin/bash
# Do something to the server or the broker that up.sh started in DIR; see README.md.
#   ./ctl.sh DIR VERB [SECONDS]
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

usage="usage: ctl.sh DIR down|stop|kill|start|start-any|restart|freeze SECONDS|broker-stop|broker-start"
[ $# -ge 2 ] || die "$usage"
load_dir "$1"
case $2 in
  down) # the watcher last: it may be the one who calls
    stop_all
    if [ "$(pid_of owner)" != "$$" ]; then signal_group TERM owner || true; fi
    rm -f "$DIR/owner.pid"
    ;;
  stop) stop_server ;;
  kill) # the server and its worker at once, as when a container is killed
    signal_group KILL server || true
    stop_server
    ;;
  start) start_server ;;
  start-any) start_server --any ;; # also if the environment does not load, as without a broker
  restart) stop_server && start_server ;;
  freeze)
    signal_group STOP server || die "no server to freeze"
    trap 'signal_group CONT server' EXIT
    sleep "${3:?freeze needs seconds}"
    ;;
  broker-stop) stop_broker ;;
  broker-start) start_broker ;;
  *) die "$usage" ;;
esac
