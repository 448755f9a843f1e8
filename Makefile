# The two commands of the README, each with its own set-up.
.PHONY: install demo test clean

PYTHON ?= python3

install: .venv/.installed

.venv/.installed: pyproject.toml constraints/cpu.txt scripts/install.sh
	PYTHON=$(PYTHON) sh scripts/install.sh

demo: install
	.venv/bin/lingraft run recipes/demo.toml

test: install
	PATH="$(CURDIR)/.venv/bin:$$PATH" sh scripts/test.sh

clean:
	rm -rf .venv
