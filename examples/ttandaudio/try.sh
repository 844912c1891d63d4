#!/bin/sh
# What "make try" does: one night of the project in this folder, now. Everything
# it writes is in .belfry and lake beside it.
set -eu
cd "$(dirname "$0")"
mkdir -p .belfry/mail
export BELFRY_MAIL_SPOOL="$PWD/.belfry/mail" # news of a failure stays here too

belfry run top-tracks --with-after

echo
echo "The account, newest first (belfry runs):"
belfry runs --limit 6
echo
echo "The lake, $PWD/lake:"
for done in lake/*/*/_SUCCESS; do
	echo "  ${done%_SUCCESS}"
done
cat <<END

Next, try:
  cd $PWD && PATH="$(dirname "$(command -v belfry)"):\$PATH"
  belfry show top-tracks                          one run, whole
  belfry run top-tracks --date 2026-07-09         another day; its partition and no other
  belfry explain top-tracks                       when it runs, in words
  belfry serve                                    keep the times, until Ctrl-C
END
