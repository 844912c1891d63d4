# Makes the Debian in the folder $1 a host whose packages come by dnf, from /srv/repo: apt is
# hidden, and Python too, but for dnf's own, as on RHEL 8. The package python3 puts a link
# to that one in its place.
set -eu
chroot "$1" sh -euc '
mkdir -p /usr/libexec /etc/yum.repos.d /srv/repo
mv /usr/bin/python3.11 /usr/libexec/platform-python
rm /usr/bin/python3 /usr/bin/apt-get
sed -i "1s|.*|#!/usr/libexec/platform-python|" /usr/bin/dnf-3
package() { # its name, what its spec says besides of itself, and of what is in it
	printf "Name: %s\nVersion: 1\nRelease: 1\nSummary: of a test\nLicense: MIT\nBuildArch: noarch\n%b%%description\n%b%%files\n%b" "$@" >/tmp/spec
	rpmbuild --quiet -bb --define "_rpmdir /srv/repo" /tmp/spec
}
package python3 "" "%install\nmkdir -p %{buildroot}/usr/bin\nln -s ../libexec/platform-python %{buildroot}/usr/bin/python3\n" "/usr/bin/python3\n"
package python3-pip "Requires: python3\n" "" ""
package slow "Provides: /bin/sh\n" "%post\nread go </run/slow\n" ""
ln -s dnf-3 /usr/bin/yum # as on Red Hat hosts
mkdir -p /etc/rpm
echo "%_dbpath /var/lib/rpm" >/etc/rpm/macros
createrepo_c --quiet /srv/repo
cat >/etc/yum.repos.d/host.repo <<END
[host]
name=host
baseurl=file:///srv/repo
gpgcheck=0
skip_if_unavailable=False
END
rm /tmp/spec'
