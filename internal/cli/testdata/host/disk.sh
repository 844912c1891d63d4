# Makes what an arm64 machine boots from, in the folder $1: a disk, and the kernel, which
# knows NVMe and ext4 without an initrd. $2 is Debian as debootstrap made it for amd64, $3 a
# folder with the same packages for arm64. Those would take an emulated processor a quarter
# of an hour to install; but what they do then, accounts and settings, is the same for every
# processor. So only their files are exchanged.
set -eu
root=$2 packages=$3
unpack() { dpkg-deb --fsys-tarfile "$1" | tar -x -C "$root" --keep-directory-symlink --no-overwrite-dir; }

unpack "$packages"/linux-image-6*.deb
mv "$root"/boot/vmlinuz-* "$1/vmlinuz"
chroot "$root" depmod "$(ls "$root/lib/modules")"
echo host >"$root/etc/hostname"
echo 127.0.0.1 localhost host >"$root/etc/hosts" # sudo looks its host up
printf '[Match]\nType=ether\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/ether.network"
chroot "$root" systemctl -q enable systemd-networkd
mkdir -p "$root/var/lib/systemd/linger"
touch "$root/var/lib/systemd/linger/root" # not to start root's systemd for each script of a test

privileged=$(find "$root" -type f -perm /6000 -printf 'chown %U:%G "%p"; chmod %m "%p"\n')
find "$root" -depth -name '*x86[_-]64*' -exec rm -r {} +
for deb in "$packages"/*.deb; do
	unpack "$deb"
done
eval "$privileged"
cd "$root/var/lib/dpkg"
sed -i 's/^Architecture: amd64$/Architecture: arm64/' status
sed -i 's/x86_64-linux-gnu/aarch64-linux-gnu/; s/ld-linux-x86-64.so.2/ld-linux-aarch64.so.1/' info/*.list
for file in info/*:amd64.*; do
	mv "$file" "${file%:amd64.*}:arm64.${file##*:amd64.}"
done
rm -f "$root/etc/ld.so.cache"
cd "$1"
mkfs.ext4 -q -d "$root" disk 4G
