#!/bin/bash
# Install (the first time) daq-queuing-service beside the packages of the server, and print
# the interpreter that has both.
#   PYTHON=$(./queue.sh)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

VERSION=0.1.25
SERVER=${REALSERVER_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/adamant-realserver/venv}
VENV=$(dirname "$SERVER")/queue

install() {
  [ "$(cat "$VENV/complete" 2>/dev/null)" != "$VERSION $SERVER" ] || return 0
  say "installing daq-queuing-service $VERSION"
  rm -rf "$VENV" && "$SERVER/bin/python" -m venv "$VENV" >&2
  # All that it needs is there, in the very versions that the server uses.
  "$SERVER/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    >"$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/server.pth"
  "$VENV/bin/pip" install -q --disable-pip-version-check -c "$HERE/constraints.txt" "daq-queuing-service==$VERSION" >"$VENV/pip.log" 2>&1 ||
    die "pip could not install daq-queuing-service $VERSION" "$VENV/pip.log"
  echo "$VERSION $SERVER" >"$VENV/complete"
}

(
  flock 9
  install
) 9>"$(dirname "$VENV")/lock"
echo "$VENV/bin/python"
