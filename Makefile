# portmap: build, test, install, package.  `make help` lists the targets.
#
# Every target does the set-up it needs.  A released binary is built as you
# (`make`), and installed as root (`sudo make install`), so that root owns
# nothing in the source tree.

PREFIX  ?= /usr/local
DESTDIR ?=
RULES   ?= rules/dev.yaml
TARGET  := $(or $(CARGO_TARGET_DIR),target)
BIN     := $(TARGET)/release/portmap
SHARE   := $(TARGET)/release/share
HELLO   := $(TARGET)/release/hello
ROOT    := $(DESTDIR)$(PREFIX)
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo)
UNITS   := portmap-nft.service portmap-nft-again.service
INSTALL ?= install

# rustup's place, and the ones an ordinary user's PATH lacks on Debian.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin

.DEFAULT_GOAL := build
.PHONY: help deps build-deps build share install uninstall apply demo test lint \
        bench bench-deps deb rpm test-boot test-packages test-ansible clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

deps: ## install the libraries, compiler and test tools, if any is missing
	@packaging/deps.sh build test

build-deps:
	@packaging/deps.sh build

build: build-deps ## build the release binary
	cargo build --release --locked

# What packages carry and only the binary can tell: manual pages, completions,
# the schema.
share: build ## generate manual pages, completions and the schema
	@packaging/share.sh $(BIN) $(SHARE)

$(BIN):
	$(MAKE) share

install: $(BIN) ## install below $(DESTDIR)$(PREFIX)
	@packaging/share.sh $(BIN) $(SHARE)
	$(INSTALL) -d $(ROOT)/bin $(ROOT)/share/man/man1 $(ROOT)/share/man/man5 \
	  $(ROOT)/share/bash-completion/completions $(ROOT)/share/zsh/site-functions \
	  $(ROOT)/share/fish/vendor_completions.d \
	  $(addprefix $(ROOT)/share/portmap/,init boot hooks) \
	  $(ROOT)/share/doc/portmap-nft/examples $(ROOT)/lib/systemd/system
	$(INSTALL) -m 755 $(BIN) $(ROOT)/bin/portmap
	$(INSTALL) -m 644 $(SHARE)/man/man1/*.1 $(ROOT)/share/man/man1
	$(INSTALL) -m 644 $(SHARE)/man/man5/*.5 $(ROOT)/share/man/man5
	$(INSTALL) -m 644 $(SHARE)/completions/portmap.bash $(ROOT)/share/bash-completion/completions/portmap
	$(INSTALL) -m 644 $(SHARE)/completions/_portmap $(ROOT)/share/zsh/site-functions/_portmap
	$(INSTALL) -m 644 $(SHARE)/completions/portmap.fish $(ROOT)/share/fish/vendor_completions.d/portmap.fish
	$(INSTALL) -m 644 $(SHARE)/rules.schema.json $(ROOT)/share/portmap/rules.schema.json
	$(INSTALL) -m 755 packaging/openrc/portmap-nft $(ROOT)/share/portmap/init/openrc
	$(INSTALL) -m 755 packaging/sysv/portmap-nft $(ROOT)/share/portmap/init/sysv
	$(INSTALL) -m 755 packaging/boot/portmap-boot $(ROOT)/share/portmap/boot/portmap-boot
	$(INSTALL) -m 755 packaging/hooks/portmap-converge $(ROOT)/share/portmap/hooks/portmap-converge
	$(INSTALL) -m 644 rules/*.yaml $(ROOT)/share/doc/portmap-nft/examples
	$(INSTALL) -m 644 docs/*.md LICENSE $(ROOT)/share/doc/portmap-nft
	@for unit in $(UNITS); do \
	  echo "$$unit > $(ROOT)/lib/systemd/system/$$unit"; \
	  sed 's|/usr/bin/portmap|$(PREFIX)/bin/portmap|g' packaging/systemd/$$unit > $(ROOT)/lib/systemd/system/$$unit && \
	  chmod 644 $(ROOT)/lib/systemd/system/$$unit || exit 1; done
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

# The directories go too where nothing else is in them; bin, lib and share stay
# on a real machine.  History and rules files are the administrator's.
uninstall: ## remove what install put there
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ] && [ -e $(ROOT)/lib/systemd/system/$(firstword $(UNITS)) ]; then \
	  systemctl disable --now $(UNITS); fi
	rm -f $(ROOT)/bin/portmap $(ROOT)/share/man/man1/portmap.1 $(ROOT)/share/man/man1/portmap-*.1 \
	  $(ROOT)/share/man/man5/portmap-rules.5 $(ROOT)/share/bash-completion/completions/portmap \
	  $(ROOT)/share/zsh/site-functions/_portmap $(ROOT)/share/fish/vendor_completions.d/portmap.fish \
	  $(addprefix $(ROOT)/lib/systemd/system/,$(UNITS))
	rm -rf $(ROOT)/share/portmap $(ROOT)/share/doc/portmap-nft
	@for d in bin lib/systemd/system share/man/man1 share/man/man5 share/doc \
	    share/bash-completion/completions share/zsh/site-functions share/fish/vendor_completions.d; do \
	  if [ -n "$(DESTDIR)" ]; then \
	    [ ! -d "$(DESTDIR)" ] || (cd $(DESTDIR) && [ ! -d .$(PREFIX)/$$d ] || rmdir -p --ignore-fail-on-non-empty .$(PREFIX)/$$d 2>/dev/null || true); \
	  elif [ "$$d" != bin ]; then \
	    (cd $(ROOT)/$${d%%/*} && [ ! -d "$${d#*/}" ] || rmdir -p --ignore-fail-on-non-empty "$${d#*/}"); \
	  fi; done
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	@if [ -z "$(DESTDIR)" ] && [ -d /var/lib/portmap ]; then \
	  echo "history stays in /var/lib/portmap; remove it with: rm -r /var/lib/portmap"; fi

apply: $(BIN) ## apply RULES=file to this machine
	$(SUDO) $(BIN) apply $(RULES)

demo: build $(HELLO) ## show it at work in a private network namespace, without root
	@packaging/demo.sh $(BIN) $(HELLO) $(RULES)

# By itself: as one of cargo's examples it would wait for the tests' libraries.
$(HELLO): examples/hello.rs
	@mkdir -p $(@D)
	rustc --edition 2024 -O $< -o $@

test: deps ## run every test
	cargo build --locked
	cargo test --locked --no-run
	tests/hooks/run $(TARGET)/debug/portmap
	packaging/private.sh cargo test --locked

lint: build-deps ## formatting, clippy and documentation, with no warning let through
	@packaging/deps.sh lint
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# In network namespaces of its own.  BENCH=--quick: few rounds, no proxies,
# nothing written; BENCH="--only applies" or "--only connections": that half.
bench: build-deps ## measure against nft, iptables, proxies; fails if a limit is missed (root)
	cargo bench --locked --bench peers \
	  $(if $(SUDO),--config 'target."cfg(unix)".runner = "$(SUDO)"') -- $(BENCH)

# A peer that is missing is left out, with a note.  Their services are kept from
# starting: the benchmark starts its own.
bench-deps: ## install what bench compares with (Debian)
	@policy=/usr/sbin/policy-rc.d; \
	if [ ! -e $$policy ]; then \
	  trap "$(SUDO) rm -f $$policy" EXIT; \
	  printf '#!/bin/sh\nexit 101\n' | $(SUDO) tee $$policy >/dev/null && $(SUDO) chmod 755 $$policy; \
	fi; \
	$(SUDO) apt-get update && $(SUDO) apt-get install -y --no-install-recommends \
	  nftables iptables iproute2 strace nginx-light libnginx-mod-stream haproxy rinetd socat

deb: share ## build the Debian package
	@packaging/deps.sh deb
	packaging/build-deb.sh $(TARGET)

rpm: share ## build the RPM package
	@packaging/deps.sh rpm
	packaging/build-rpm.sh $(TARGET)

test-boot: build $(HELLO) ## boot a real Debian in a container and look (root)
	@packaging/deps.sh boot
	$(SUDO) env PATH="$(PATH)" TARGET="$(abspath $(TARGET))" tests/boot/run

test-packages: deb rpm $(HELLO) ## install, upgrade, remove and purge the packages (root)
	@packaging/deps.sh boot packages
	$(SUDO) env PATH="$(PATH)" TARGET="$(abspath $(TARGET))" tests/packages/run

test-ansible: build ## run the Ansible collection on ten hosts made of namespaces (root)
	$(SUDO) env PATH="$(PATH)" TARGET="$(abspath $(TARGET))" tests/ansible/run
	$(SUDO) env PATH="$(PATH)" TARGET="$(abspath $(TARGET))" tests/ansible/sanity

clean: ## remove what was built
	cargo clean
