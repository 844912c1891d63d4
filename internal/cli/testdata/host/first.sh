#!/bin/sh
# What an arm64 machine executes as process 1 the first time: the second stage of debootstrap.
# It ends with the machine, which says "made" on its console when all went well.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyAMA0 2>&1
/debootstrap/debootstrap --second-stage || { tail -n 50 /debootstrap/debootstrap.log; exit 1; }
depmod
echo host >/etc/hostname
echo 127.0.0.1 localhost host >/etc/hosts # sudo looks its host up
printf '[Match]\nType=ether\n[Network]\nDHCP=yes\n' >/etc/systemd/network/ether.network
systemctl enable systemd-networkd
mkdir -p /var/lib/systemd/linger && touch /var/lib/systemd/linger/root # not to start one for each script of a test
mount -o remount,ro /
echo made
echo o >/proc/sysrq-trigger
read -r _ </dev/ttyAMA0 # process 1 must not end before the machine
