#!/bin/sh
# Installs what the tests need and runs every one of them. Debian packages are
# only installed as root; otherwise what is missing is named.
set -eu
cd "$(dirname "$0")/.."

missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need gcc gcc
need python3 python3
/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
need s3cmd s3cmd
/usr/bin/python3 -c 'import boto3' 2>/dev/null || missing="$missing python3-boto3" # a reader of what was published
/usr/bin/python3 -c 'import jsonschema' 2>/dev/null || missing="$missing python3-jsonschema" # holds the schema and the parser of belfry.yaml together
need ps procps
need age age
need systemd-analyze systemd
need git git
need ssh openssh-client
need /usr/sbin/sshd openssh-server
need busybox busybox-static # containers of tests have no libraries
if [ "$(id -u)" = 0 ]; then # whose tests these are
	need /usr/sbin/cron cron # with a clock of its own
	need ip iproute2 # hosts that are deployed to have networks of their own,
	need nft nftables # which fail
fi
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
[ -d /usr/share/zoneinfo ] || missing="$missing tzdata"
if [ -n "$missing" ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		echo "installing$missing"
		apt-get update -qq
		# shellcheck disable=SC2086
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove $missing >/dev/null
	else
		echo "the tests need these Debian packages:$missing" >&2
		exit 1
	fi
fi
go mod download
BELFRY_SKIPPED=$(mktemp)
export BELFRY_SKIPPED
trap 'sort -u "$BELFRY_SKIPPED"; rm -f "$BELFRY_SKIPPED"' EXIT # what was not tested, and why, ends the run
go test -p 2 -race -shuffle=on -timeout 30m "$@" ./...
# What a Mac would run, as far as this kernel can: without what only Linux has.
# The tests of that, which all have run above, are not asked for.
linux='TestAFileThatWasTruncatedAtItsEndIsNotRemoved|TestAJobMayRemoveItsLog|TestAJobMayTruncateItsOutput'
linux="$linux|TestAJobThatPrintsNothingLeavesNothing|TestALogWhoseFileWasRemovedBeforeItWasClosedIsClosed"
linux="$linux|TestAProcessThatAJobLeavesBehindIsHeard|TestCgroupOfABackgroundProcessGoesWithIt"
linux="$linux|TestCgroupThatARecordNamesMustBeTheAttempts|TestDiskIsGivenBackWhileTheJobRuns"
linux="$linux|TestFromBehindItsEndALogIsReadFromItsEnd|TestNoByteIsLostOrStoredTwiceWhenTheFollowerIsKilled"
linux="$linux|TestOfALongLogTheEndsAreKept|TestOutputWhoseSecretsAreNotKnownStaysInItsFile"
linux="$linux|TestProcessThatLeftEverythingElseIsFoundByItsCgroup|TestSecretsAreNeitherStoredNorShown"
linux="$linux|TestSecretsThatAHoleHasCutAreNotShown|TestWhatIsPrintedAfterATruncationIsNotGivenBack"
linux="$linux|TestWhatIsPrintedIsStoredWholeAndTheFileGoes|TestWhatTheKeeperPunchesOutIsNeverTakenForOutput"
linux="$linux|TestWithoutALimitAllIsKept"
go test -p 2 -tags portable -timeout 10m -skip "^($linux)\$" ./internal/socket ./internal/proc ./internal/logs ./internal/notify ./internal/run
go test -p 2 -tags portable -timeout 10m ./internal/project
go test -p 2 -tags portable -timeout 10m ./internal/publish -run 'Director|Beneath|Output|Target|Strange'
go test -p 2 -tags portable -timeout 10m ./internal/python -run 'AKilledMaker|ThatOutlivesItsMaker'
go test -p 2 -tags portable -timeout 10m ./internal/cli -run 'TestScripts|Interrupt|AJobOutlives'
# Many more schedules beside cron's own loop than the race detector has time for.
go test ./crontab -run TestFiringsAreThoseOfTheDaemonsLoop -comparisons 100000
