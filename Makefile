# `make` prints what there is. Every target is one command that can also be typed by hand.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo stack test packages e2e-packages images image images-sweep e2e-images deploy promote destroy db-upgrade bench services-up services-down fmt lint mutants screenshots

CACHE := $(or $(TIDEPOOL_CACHE),.cache)
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
PROGRAMS := -p tidepool-api -p tidepool-autoscaler -p tidepool-local-cloud -p tidepool-demo

help: ## print this
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1@\2/p' $(MAKEFILE_LIST) | column -t -s@

demo: ## watch an API scale itself on this machine (DEMO_SECONDS=150 ends by itself, DEMO_LOAD=flat keeps the load level)
	cargo build --release --locked $(PROGRAMS)
	$(RELEASE)/tidepool-demo demo

stack: ## the same with three Cassandra nodes, Elasticsearch and Metricbeat (needs Java 17, Maven, Go)
	services/services fetch
	cargo build --release --locked $(PROGRAMS)
	$(RELEASE)/tidepool-demo stack

test: ## every test, against real servers and clients; sets up what it needs (ALSO=images: and these stages of e2e/run)
	e2e/run all $(ALSO)

e2e-images: ## systemd hosts of the local cloud, and images made on them (root, Debian; installs systemd-container, mmdebstrap, nftables, lxcfs; E2E_SHORT=1: the main path)
	e2e/run images

bench: ## requests a second, latency and CPU a request beside a minimal server
	cargo build --release --locked -p tidepool-api -p tidepool-bench
	services/with-empty-cassandra bash -c '$(RELEASE)/tidepool-bench $${CASSANDRA_HOSTS:+--cassandra $$CASSANDRA_HOSTS}'

packages: $(CACHE)/cargo/bin/cargo-deb ## Debian packages in target/packages (VERSION=1.2.3; default: from git describe)
	PATH="$(abspath $(CACHE))/cargo/bin:$$PATH" VERSION="$(VERSION)" packaging/build

e2e-packages: $(CACHE)/cargo/bin/cargo-deb ## make, install, use, upgrade, remove and purge the packages on a host of their own (root)
	e2e/run packages

images: ## images of all hosts: CLOUD=digitalocean|gce|local (a cloud on this machine, needs root), VERSION=1.2.3
	CLOUD="$(or $(CLOUD),local)" VERSION="$(VERSION)" packer/build api db monitoring autoscaler

image: ## the same of one: NAME=api|db|monitoring|autoscaler
	CLOUD="$(or $(CLOUD),local)" VERSION="$(VERSION)" packer/build $(NAME)

images-sweep: ## remove what builds have left that were killed more than two hours ago (CLOUD=)
	CLOUD="$(or $(CLOUD),local)" packer/sweep

deploy: ## the whole service, at DigitalOcean or (CLOUD=local) on a local cloud: ENV=dev|staging|prod, the first time DOMAIN=, SSH_ALLOW=
	digitalocean/deploy.sh deploy $(ENV)

promote: ## the image versions that staging runs, into prod; refused unless staging is green
	digitalocean/deploy.sh promote

db-upgrade: ## new hosts of the newest image for the database, one at a time (ENV=)
	digitalocean/deploy.sh db-upgrade $(ENV)

destroy: ## remove it again, but for volumes and images (ENV=, VOLUMES=remove)
	digitalocean/deploy.sh destroy $(ENV) $(if $(filter remove,$(VOLUMES)),--volumes)

$(CACHE)/cargo/bin/cargo-deb:
	cargo install --debug --locked --version 3.8.0 --root $(CACHE)/cargo cargo-deb

services-up: ## start Cassandra (3 nodes) and Elasticsearch, build Metricbeat, print where they listen
	services/services up

services-down: ## stop them and delete their data
	services/services down

fmt: ## format the Rust code
	cargo fmt --all

lint: ## the checks that start nothing: formatting, imports, clippy, shell scripts, dependencies, licences, documentation
	e2e/run format pure-core architecture clippy documentation scripts dependencies

mutants: $(CACHE)/cargo/bin/cargo-mutants ## plant bugs in the pure code and check that a test catches each (a quarter of an hour)
	PATH="$$PWD/$(CACHE)/cargo/bin:$$PATH" e2e/mutants

$(CACHE)/cargo/bin/cargo-mutants:
	cargo install --locked --version 27.1.0 --root $(CACHE)/cargo cargo-mutants

screenshots: ## take the pictures of the README again
	SCREENSHOTS=docs/images e2e/run build browser demo
