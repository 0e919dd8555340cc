.PHONY: bench bench-deps

# Compares portmap with nft, iptables and the proxies, in network namespaces of its own, and writes
# docs/bench.md. Needs root. Fails if a limit is missed. BENCH=--quick: few rounds, no proxies,
# nothing written.
bench:
	cargo bench --bench peers -- $(BENCH)

# The peers that `make bench` compares with; one that is missing is left out, with a note. Their
# services are kept from starting: the benchmark starts its own, in namespaces.
bench-deps:
	policy=/usr/sbin/policy-rc.d; \
	if [ ! -e $$policy ]; then \
	  trap "rm -f $$policy" EXIT; \
	  printf '#!/bin/sh\nexit 101\n' > $$policy && chmod 755 $$policy; \
	fi; \
	apt-get update && apt-get install -y --no-install-recommends nftables iptables iproute2 \
	  strace nginx-light libnginx-mod-stream haproxy rinetd socat
