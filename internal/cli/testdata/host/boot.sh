# Boots the root directory $1, by executing $4 and so on in it. It is process 1 of
# namespaces of its own already; $2 is a folder that keeps what the host writes, so that
# it can be booted again, $3 a cgroup of its own. It waits for a line on standard input: then the network
# is there. Nothing of the machine is written: its root is left behind, and its kernel's
# settings are read-only.
set -eu
root=$1 keeps=$2 cgroup=$3
shift 3
echo 0 > "$cgroup/cgroup.procs"
read -r plugged
exec unshare --cgroup --mount --propagation private sh -euc '
mkdir -p "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
cd "$2/root"
echo host > etc/hostname
echo 127.0.0.1 localhost host > etc/hosts # sudo looks its host up
: > etc/resolv.conf
mount -t proc proc proc
for path in sys sysrq-trigger irq bus; do
	[ -e "proc/$path" ] || continue
	mount --bind "proc/$path" "proc/$path"
	mount -o remount,bind,ro "proc/$path"
done
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
	: > "dev/$device"
	mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mkdir -p mnt
pivot_root . mnt
cd /
umount -l /mnt
shift 2
exec env -i container=belfry PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-sys_boot "$@"
' sh "$root" "$keeps" "$@"
