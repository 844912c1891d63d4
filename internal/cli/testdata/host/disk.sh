# Makes of what debootstrap --foreign left in $1/root what an arm64 machine boots from: the
# kernel $1/vmlinuz, which knows NVMe and ext4 without an initrd, and $1/disk. $2 is what
# that machine executes first.
set -eu
cd "$1"
dpkg-deb --fsys-tarfile root/var/cache/apt/archives/linux-image-6*.deb | tar -x -C root --keep-directory-symlink
mv root/boot/vmlinuz-* vmlinuz
# The package is there, then, and need not be unpacked by the machine, nor what makes an initrd.
sed -i -E 's/\b(linux-(image|base)|initramfs-tools|klibc-utils|libklibc|cpio)[^ ]* //g' root/debootstrap/base
cat > root/etc/dpkg/dpkg.cfg.d/quick <<'END'
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
END
cp "$2" root/debootstrap/init
mkfs.ext4 -q -d root disk 4G
rm -r root
