# What there is on the host, a line each. Changes nothing. $1: the project; $2: the
# hash of the binary that is meant.
say() { printf '%s=%s\n' "$1" "$(printf %s "$2" | tr '\n\r' '  ')"; }
have() { command -v "$1" >/dev/null 2>&1; }

say user "$(id -un)"
say uid "$(id -u)"
say home "$HOME"
say system "$(uname -s)"
say machine "$(uname -m)"
if [ -r /etc/os-release ]; then
	say distribution "$(. /etc/os-release; printf %s "${PRETTY_NAME:-$ID}")"
fi
if [ -d /run/systemd/system ] && have systemctl; then
	say init systemd
	if have loginctl && systemctl --user show-environment >/dev/null 2>&1; then
		say user_units yes
		# It outlives the session if it does so already, or if polkit lets the user say so.
		if [ -e "/var/lib/systemd/linger/$(id -un)" ] || pkcheck --action-id org.freedesktop.login1.set-self-linger --process $$ >/dev/null 2>&1; then say linger yes; fi
	fi
else
	say init "$(cat /proc/1/comm 2>/dev/null)"
fi
case "$(cat /sys/fs/selinux/enforce 2>/dev/null)" in
1) say selinux enforcing ;;
0) say selinux permissive ;;
esac
if [ "$(id -u)" = 0 ]; then
	say root yes
elif have sudo && sudo -n true 2>/dev/null; then
	say root sudo
fi
say free "$(df -Pk "$HOME" 2>/dev/null | awk 'NR == 2 { print $4 }')"
say clock "$(date -u +%s)"
zone=${TZ:-}
[ -n "$zone" ] || zone=$(readlink /etc/localtime 2>/dev/null | sed 's|.*/zoneinfo/||')
[ -n "$zone" ] || zone=$(cat /etc/timezone 2>/dev/null)
say zone "${zone:-UTC}"
if have python3; then
	say python "$(python3 -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)"
	if python3 -c 'import venv, ensurepip' 2>/dev/null; then say venv yes; fi
fi
for p in apt-get dnf yum apk zypper pacman; do
	if have "$p"; then say packages "$p"; break; fi
done
for p in /proc/[0-9]*; do
	case "$(cat "$p/comm" 2>/dev/null)" in
	cron | crond | fcron | anacron) say cron "$(cat "$p/comm")"; break ;;
	esac
done
# A crontab is not everybody's to have (cron.allow, a busybox that is not setuid).
lines=$(LC_ALL=C crontab -l 2>&1) || case $lines in
*"no crontab"* | *"No such file"*) lines= ;;
*) lines=none ;;
esac
if have crontab && [ "$lines" != none ]; then
	say crontab yes
	say entries "$(printf '%s\n' "$lines" | grep -v 'internal-site start' | grep -c '^[^#]')"
fi
for p in sha256sum shasum openssl; do
	if have "$p"; then say hash "$p"; break; fi
done
if have gzip; then say gzip yes; fi

site=$HOME/belfry/$1
if [ -L "$site/current" ]; then say release "$(basename "$(readlink "$site/current")")"; fi
if [ -L "$site/belfry" ]; then say binary "$(basename "$(dirname "$(readlink "$site/belfry")")")"; fi
if [ -x "$site/bin/$2/belfry" ]; then say has_binary yes; fi
others=
for d in "$HOME"/belfry/*/current; do
	other=${d%/current}
	if [ -L "$d" ] && [ "$other" != "$site" ]; then others="$others ${other##*/}"; fi
done
say others "$others"
if [ -r "$site/service.json" ]; then say service "$(cat "$site/service.json")"; fi
say done yes
