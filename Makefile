# portmap: build, test, install, package.  `make help` lists the targets.
#
# `make` builds as an ordinary user; it installs no packages and runs nothing as
# root.  `sudo make install` only copies what was built, so that root owns nothing
# in the source tree.  The targets that test or demonstrate install what they need.

PREFIX     ?= /usr/local
DESTDIR    ?=
SYSCONFDIR ?= /etc
STATEDIR   ?= /var/lib
DOCDIR     ?= $(PREFIX)/share/doc/portmap-nft
ZSHDIR     ?= $(PREFIX)/share/zsh/site-functions
RULES      ?= rules/dev.yaml
TARGET     := $(or $(CARGO_TARGET_DIR),target)
BIN        := $(TARGET)/release/portmap
SHARE      := $(TARGET)/release/share
STAMP      := $(TARGET)/release/.portmap-built
HELLO      := $(TARGET)/release/hello
ROOT       := $(DESTDIR)$(PREFIX)
DOC        := $(DESTDIR)$(DOCDIR)
SUDO       := $(if $(filter 0,$(shell id -u)),,sudo)
UNITS      := portmap-nft.service portmap-nft-again.service portmap-nft-guard.service
INSTALL    ?= install
# Links of the documents to what is elsewhere once installed, or is not installed.
MOVED      := s,packaging/examples/,examples/,g; s,](rules),](examples),g; \
  s,\[\([^][]*\)\](\(\.\./\)*\(packaging/ansible\|ARCHITECTURE\.md\)[^)]*),\1 (in the source tree),g
# What the binary and what it generates are made from.
SOURCES    := src man schema Cargo.toml Cargo.lock packaging/share.sh packaging/notices.sh

# rustup's directory, and those that an ordinary user's PATH lacks on Debian.
# Root's own commands never get this PATH: sudo sets its own.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin

.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: help deps build-deps build built install uninstall apply demo test walk faults fuzz fuzz-corpus trust-report \
        firewalls lint bench bench-deps dist deb rpm test-install test-boot test-recipes test-packages test-ansible test-kernels check-arm64 test-big-endian test-memory supply clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 21

deps: ## install the libraries and test tools that are missing (uses sudo)
	@packaging/deps.sh build test

build-deps:
	@packaging/deps.sh build

# No path of this machine is left in the binary: it is the same wherever it is built.
build bench: export RUSTFLAGS := $(strip $(RUSTFLAGS) \
  --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/usr/src/cargo \
  --remap-path-prefix=$(CURDIR)=/usr/src/portmap-nft \
  --remap-path-prefix=$(abspath $(TARGET))=/usr/src/portmap-nft/target)

build: ## build the release binary, manual pages and completions
	@packaging/deps.sh --check build
	@mkdir -p $(TARGET)/release && touch $(STAMP).new
	cargo build --release --locked
	@packaging/share.sh $(BIN) $(SHARE)
	@mv $(STAMP).new $(STAMP)

built:
	@for file in $(BIN) $(SHARE) $(STAMP); do [ -e $$file ] || { \
	  echo "$$file is missing: run \`make\` first, as an ordinary user" >&2; exit 1; }; done
	@newer=$$(find $(SOURCES) -type f -newer $(STAMP) -print -quit) && [ -z "$$newer" ] || { \
	  echo "$(BIN) is older than $$newer: run \`make\` first, as an ordinary user" >&2; exit 1; }

# The one list of installed files: the Debian package and the RPM are made with it.
install: built ## copy what `make` built below $(DESTDIR)$(PREFIX)
	$(INSTALL) -d $(ROOT)/bin $(ROOT)/share/man/man5 $(ROOT)/share/man/man8 \
	  $(ROOT)/share/bash-completion/completions $(DESTDIR)$(ZSHDIR) \
	  $(ROOT)/share/fish/vendor_completions.d \
	  $(addprefix $(ROOT)/share/portmap/,init boot hooks) \
	  $(DOC)/docs $(DOC)/examples $(ROOT)/lib/systemd/system \
	  $(DESTDIR)$(SYSCONFDIR)/portmap $(DESTDIR)$(STATEDIR)/portmap
	$(INSTALL) -m 755 $(BIN) $(ROOT)/bin/portmap
	$(INSTALL) -m 644 $(SHARE)/man/man5/*.5 $(ROOT)/share/man/man5
	$(INSTALL) -m 644 $(SHARE)/man/man8/*.8 $(ROOT)/share/man/man8
	$(INSTALL) -m 644 $(SHARE)/completions/portmap.bash $(ROOT)/share/bash-completion/completions/portmap
	$(INSTALL) -m 644 $(SHARE)/completions/_portmap $(DESTDIR)$(ZSHDIR)/_portmap
	$(INSTALL) -m 644 $(SHARE)/completions/portmap.fish $(ROOT)/share/fish/vendor_completions.d/portmap.fish
	$(INSTALL) -m 644 $(SHARE)/rules.schema.json $(ROOT)/share/portmap/rules.schema.json
	$(INSTALL) -m 755 packaging/openrc/portmap-nft $(ROOT)/share/portmap/init/openrc
	$(INSTALL) -m 755 packaging/sysv/portmap-nft $(ROOT)/share/portmap/init/sysv
	$(INSTALL) -m 755 packaging/boot/portmap-boot $(ROOT)/share/portmap/boot/portmap-boot
	$(INSTALL) -m 755 packaging/hooks/portmap-converge $(ROOT)/share/portmap/hooks/portmap-converge
	$(INSTALL) -m 644 README.md CHANGELOG.md SECURITY.md LICENSE $(SHARE)/THIRD-PARTY $(DOC)
	$(INSTALL) -m 644 docs/*.md docs/*.svg $(DOC)/docs
	sed -i '$(MOVED)' $(DOC)/*.md $(DOC)/docs/*.md
	$(INSTALL) -m 644 rules/*.yaml $(wildcard packaging/examples/*) $(DOC)/examples
	$(INSTALL) -m 644 packaging/etc/web.yaml.example $(DESTDIR)$(SYSCONFDIR)/portmap/web.yaml.example
	@for unit in $(UNITS); do \
	  echo "$$unit > $(ROOT)/lib/systemd/system/$$unit"; \
	  sed 's|/usr/bin/portmap|$(PREFIX)/bin/portmap|g' packaging/systemd/$$unit > $(ROOT)/lib/systemd/system/$$unit && \
	  chmod 644 $(ROOT)/lib/systemd/system/$$unit || exit 1; done
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

# Directories are removed where nothing else is in them, but bin, lib and share stay
# on a real machine.  History and rules files are the administrator's.
uninstall: ## remove what install copied
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ] && [ -e $(ROOT)/lib/systemd/system/$(firstword $(UNITS)) ]; then \
	  systemctl disable --now $(UNITS); fi
	rm -f $(ROOT)/bin/portmap $(ROOT)/share/man/man8/portmap.8 $(ROOT)/share/man/man8/portmap-*.8 \
	  $(ROOT)/share/man/man5/portmap-rules.5 $(ROOT)/share/bash-completion/completions/portmap \
	  $(DESTDIR)$(ZSHDIR)/_portmap $(ROOT)/share/fish/vendor_completions.d/portmap.fish \
	  $(addprefix $(ROOT)/lib/systemd/system/,$(UNITS)) $(DESTDIR)$(SYSCONFDIR)/portmap/web.yaml.example
	rm -rf $(ROOT)/share/portmap $(DOC)
	@for d in $(DESTDIR)$(SYSCONFDIR)/portmap $(DESTDIR)$(STATEDIR)/portmap; do \
	  [ ! -d $$d ] || rmdir --ignore-fail-on-non-empty $$d; done
	@[ -z "$(DESTDIR)" ] || [ ! -d "$(DESTDIR)" ] || find $(DESTDIR) -mindepth 1 -depth -type d -empty -delete
	@[ -n "$(DESTDIR)" ] || for d in lib/systemd/system share/man/man5 share/man/man8 share/doc \
	    share/bash-completion/completions share/zsh/site-functions share/fish/vendor_completions.d; do \
	  (cd $(ROOT)/$${d%%/*} && [ ! -d "$${d#*/}" ] || rmdir -p --ignore-fail-on-non-empty "$${d#*/}"); done
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	@if [ -z "$(DESTDIR)" ] && [ -d $(STATEDIR)/portmap ]; then \
	  echo "the history is kept in $(STATEDIR)/portmap; to remove it: rm -r $(STATEDIR)/portmap"; fi

apply: built ## apply RULES=file to this machine (uses sudo)
	$(SUDO) $(BIN) apply $(RULES)

demo: build-deps build $(HELLO) ## show portmap at work in a private network namespace, without root
	@packaging/demo.sh $(BIN) $(HELLO) $(RULES)

# Not one of cargo's examples: it would have to wait for the tests' libraries.
$(HELLO): examples/hello.rs
	@mkdir -p $(@D)
	rustc --edition 2024 -O $< -o $@

# An ordinary user's namespace has no other users.
test: LEFT_OUT := $(if $(SUDO),$(shell grep -v '^\#' tests/needs-root))
test: deps ## run all tests
	cargo build --locked
	cargo test --locked --no-run
	tests/hooks/run $(TARGET)/debug/portmap
	@if command -v python3 >/dev/null; then \
	  packaging/private.sh python3 tests/ansible/without_ansible.py $(TARGET)/debug/portmap; \
	  else echo "skip: there is no python3 for the Ansible module"; fi
	@$(foreach name,$(LEFT_OUT),echo "left out, as it needs root: $(name)";)
	packaging/private.sh cargo test --locked $(if $(LEFT_OUT),-- $(addprefix --skip ,$(LEFT_OUT)))

# Fails with the seed that walks the same way again: make walk WALK=STEPS:SEED
WALK       ?= 10000
walk: deps ## take WALK=STEPS of a random walk, and compare the kernel with a model (writes a record)
	@mkdir -p tests/records
	PORTMAP_WALK=$(WALK) PORTMAP_RECORDS=$(abspath tests/records) \
	  packaging/private.sh cargo test --locked --test it walk:: -- --nocapture

# FAULTS=COUNT[:SEED] for less than all.
faults: deps ## let system calls of each command fail, or be its last (an hour or two; writes a record)
	@mkdir -p tests/records
	PORTMAP_FAULTS=$(or $(FAULTS),all) PORTMAP_RECORDS=$(abspath tests/records) \
	  packaging/private.sh cargo test --locked --test it faults:: -- --nocapture

# FUZZ_SECONDS for each target, 60 if it is not given; FUZZ_JOBS at a time, 1 if not given.
fuzz: build-deps ## feed random bytes to everything that reads (cargo-fuzz; writes a record)
	fuzz/run

fuzz-corpus: build-deps ## the same with what is kept of the corpora, without a fuzzer
	RUSTFLAGS="--cfg fuzzing" cargo test --locked --manifest-path fuzz/Cargo.toml \
	  --target-dir $(TARGET)/fuzz-corpus --test corpus

trust-report: build-deps ## write docs/trust.md: what is checked, how far, and when last
	packaging/trust.sh

firewalls: deps ## compare what is said of other rulesets with real connections
	packaging/private.sh cargo test --locked --test it firewalls -- --nocapture

lint: build-deps ## check formatting, clippy and documentation; warnings are errors
	@packaging/deps.sh lint
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# Runs in network namespaces of its own.  BENCH=--quick: few rounds, no proxies,
# nothing written; BENCH="--only applies", "noop", "aftermath" or "connections": that part;
# BENCH="--before PATH": another portmap beside this one.
bench: build-deps ## measure against nft, iptables and proxies; fails if a limit is missed (root)
	cargo bench --locked --bench peers \
	  $(if $(SUDO),--config 'target."cfg(unix)".runner = "$(SUDO)"') -- $(BENCH)

# A program that is missing is left out of the benchmark, with a note.
bench-deps: ## install the programs that bench compares with (Debian; uses sudo)
	@packaging/deps.sh bench

dist: ## make the release archive, with the crates to build it without a network
	@packaging/dist.sh $(TARGET)

deb: dist ## build the Debian source and binary package
	@packaging/deps.sh build deb
	@packaging/build-deb.sh $(TARGET)

rpm: dist ## build the source and binary RPM
	@packaging/deps.sh build rpm
	@packaging/build-rpm.sh $(TARGET)

test-install: build ## install and uninstall below a directory, and look (root)
	$(SUDO) env TARGET="$(abspath $(TARGET))" tests/packages/install

test-boot: build-deps build $(HELLO) ## boot a Debian container and test restoring at boot (root)
	@packaging/deps.sh boot
	$(SUDO) env TARGET="$(abspath $(TARGET))" tests/boot/run
	$(SUDO) env TARGET="$(abspath $(TARGET))" tests/boot/guard

test-recipes: build-deps build $(HELLO) ## follow the recipes of the README with the real programs (Debian, root)
	@packaging/deps.sh boot
	$(SUDO) env TARGET="$(abspath $(TARGET))" tests/recipes/run

test-packages: deb rpm $(HELLO) test-install ## install, upgrade, remove and purge the packages (root)
	@packaging/deps.sh boot
	$(SUDO) env TARGET="$(abspath $(TARGET))" tests/packages/run

.PHONY: test-reproducible test-msrv
# Writes docs/reproducible.md.
test-reproducible: ## build archive and packages twice, and compare every byte (Debian, root)
	@packaging/deps.sh build deb rpm
	$(SUDO) env TARGET="$(abspath $(TARGET))" tests/packages/reproducible

test-msrv: dist ## build the Debian package on Debian 13, with its own Rust and no network (root)
	@packaging/deps.sh boot
	$(SUDO) env TARGET="$(abspath $(TARGET))" tests/packages/debian-13

test-ansible: build ## test the Ansible collection on ten hosts made of namespaces (root)
	$(SUDO) env TARGET="$(abspath $(TARGET))" tests/ansible/run
	$(SUDO) env TARGET="$(abspath $(TARGET))" tests/ansible/sanity

# Writes docs/kernels.md.  KERNELS="bullseye:bookworm": whose kernel, and whose nft.
test-kernels: build-deps ## boot other kernels under qemu and run the tests there (Debian, root)
	@packaging/deps.sh kernels
	$(SUDO) env SUITES="$(SUITES)" ACCEL="$(ACCEL)" tests/kernels/run $(KERNELS)

# Without linking: that would take that architecture's libraries.
check-arm64: build-deps ## check that it compiles for arm64 (rustup; writes a record)
	rustup target add aarch64-unknown-linux-gnu
	PKG_CONFIG_ALLOW_CROSS=1 cargo check --locked --lib --bins --target aarch64-unknown-linux-gnu
	packaging/record.sh check-arm64 rust="$$(rustc --version | cut -d' ' -f2)"

# Writes docs/trust.md.
test-big-endian: build-deps ## run the unit tests on an emulated s390x (Debian, rustup)
	@packaging/deps.sh big-endian
	tests/big-endian/run

# Writes docs/trust.md.
test-memory: build-deps ## run the code that calls C under valgrind (root)
	@packaging/deps.sh test memory
	$(SUDO) $(if $(CARGO_TARGET_DIR),env CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)") tests/memory/run

# SUPPLY=all asks for security advisories as well: their database is fetched for that, or, with
# SUPPLY_FLAGS=--offline, the copy that there is has to do.
supply: SUPPLY ?= licenses bans sources
supply: ## check licences, sources and duplicates of the dependencies, by deny.toml (writes a record)
	@command -v cargo-deny >/dev/null || { \
	  echo "cargo-deny is missing: run \`cargo install --locked cargo-deny\`" >&2; exit 1; }
	cargo deny --locked $(SUPPLY_FLAGS) check $(SUPPLY)
	packaging/record.sh supply tool="$$(cargo deny --version)" checks="$(SUPPLY)" $(if $(filter all advisories,$(SUPPLY)),\
	  advisories="$$(git -C "$(or $(CARGO_HOME),$(HOME)/.cargo)"/advisory-dbs/advisory-db-* log -1 --format=%cs)")

clean: ## remove what was built
	cargo clean
