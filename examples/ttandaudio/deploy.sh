#!/bin/sh
# Puts this project on a host, as in: ./deploy.sh ec2-user@203.0.113.7 -i key-pair.pem
# and runs tonight's batch there once. It counts what you would have typed.
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || { echo "usage: $0 USER@HOST [-i KEY]" >&2; exit 2; }
typed=0
type_() {
	typed=$((typed + 1))
	echo "\$ $*"
	"$@"
}

type_ belfry deploy "$@" --run top-tracks

echo
echo "Typed: $typed command. From now on the host keeps the times; see what it did with"
echo "  belfry -H $* runs"
