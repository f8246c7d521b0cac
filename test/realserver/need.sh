#!/bin/bash
# Install Debian's package of a program if that is missing: need.sh PROGRAM [PACKAGE]
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

command -v "$1" >/dev/null || install_apt "${2:-$1}"
