# The front door: each line is one program with its own `--help`.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

STACK ?= local
export STACK

PILOT := python3 -m pilot

.PHONY: help up down import leave preview status workspace password doctor prove outdated upgrade backup restore adopt
.PHONY: upgrade-postgres verdict room
.PHONY: test check drills speed lock docs

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

up: ## bring the pilot up, or put it right (STACK=local) [NEW_STATE=yes] [TAKE_OVER=yes] [NEW_DATABASE=yes]
	@$(PILOT) up $(if $(filter yes,$(NEW_STATE)),--new-state) $(if $(filter yes,$(TAKE_OVER)),--take-over) \
		$(if $(filter yes,$(NEW_DATABASE)),--new-database)

down: ## retire the pilot; homes, database and backups stay [WITHOUT_DUMP=yes] [YES=yes, with purgeOnDestroy]
	@$(PILOT) down $(if $(filter yes,$(WITHOUT_DUMP)),--without-dump) $(if $(filter yes,$(YES)),--yes)

import: ## copy a project into a home: FROM=<container:path|volume:path|path> NAME=demo [TO=folder] [YES=yes] [ARGS=--editor]
	@$(PILOT) import --to "$(TO)" $(if $(filter yes,$(YES)),--yes) $(ARGS) -- "$(FROM)" "$(NAME)"

leave: ## retire the pilot, and write a script that runs the homes without Coder
	@$(PILOT) leave

preview: ## say what `make up` would change
	@$(PILOT) preview

status: ## containers, workspaces, deadlines, memory [HOMES=yes]
	@$(PILOT) status $(if $(filter yes,$(HOMES)),--homes)

workspace: ## create or start a workspace: NAME=demo [REPO=https://…] [TEMPLATE=code-server-kubernetes] [NEW_HOME=yes]
	@$(PILOT) workspace --repo "$(REPO)" --template "$(TEMPLATE)" $(if $(filter yes,$(NEW_HOME)),--new-home) -- "$(NAME)"

password: ## print your password, or the administrator's [WHO=admin]
	@$(PILOT) password $(if $(WHO),--who "$(WHO)")

doctor: ## say whether `make up` would work, and how to fix what is missing
	@$(PILOT) doctor $(ARGS)

prove: ## try every promise on the running pilot, in three minutes [ARGS=--json]
	@$(PILOT) prove $(ARGS)

outdated: ## ask the sources what has moved on, and what has known holes [ARGS=--json]
	@$(PILOT) outdated $(ARGS)

upgrade: ## back up, pull the tags of the settings again, up, prove
	@$(PILOT) upgrade

backup: ## dump the database, keep the state beside it
	@$(PILOT) backup

restore: ## put a backup in the place of the database: FILE=…
	@$(PILOT) restore "$(FILE)"

adopt: ## say how to take over a pilot that runs with docker compose
	@$(PILOT) adopt

upgrade-postgres: ## move the data to the Postgres that the settings name
	@$(PILOT) upgrade-postgres

verdict: ## is the pilot worth keeping? its own figures say [DAYS=7] [ARGS=--sources]
	@$(PILOT) verdict $(if $(DAYS),--days $(DAYS)) $(ARGS)

room: ## stop idle workspaces until so much memory is available: SIZE=20GiB
	@$(PILOT) room -- "$(SIZE)"

check: ## lint, types, unit tests, policy: under 30 s
	@ci/check.sh

test: ## end to end too, all that fits a quarter of an hour
	@ci/test.sh

drills: ## everything: the long end-to-end tests as well
	@ci/test.sh --drills

speed: ## measure what up and a workspace's start cost, on a machine at rest
	@ci/test.sh --speed

lock: ## write requirements.lock anew from pyproject.toml
	@ci/lock.sh

docs: ## write the generated documentation anew
	@ci/docs.sh
