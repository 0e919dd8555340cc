# Zero packages are left: a removal, not an upgrade.
if [ "$1" = 0 ]; then
	if [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now portmap-nft.service portmap-nft-again.service >/dev/null 2>&1 || :
	fi
	portmap --quiet clear --no-history || :
fi
