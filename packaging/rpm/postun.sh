if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null 2>&1 || :
fi
# The package's own directories; what is in /var/lib/portmap and /etc/portmap is
# the administrator's.
if [ "$1" = 0 ]; then
	rmdir /usr/share/portmap/* /usr/share/portmap \
		/usr/share/doc/portmap-nft/* /usr/share/doc/portmap-nft \
		/usr/share/licenses/portmap-nft 2>/dev/null || :
fi
