# The two commands of the README, each with its own set-up.
.PHONY: install demo control test clean

PYTHON ?= python3

install: .venv/.installed

.venv/.installed: pyproject.toml constraints/cpu.txt scripts/install.sh
	PYTHON=$(PYTHON) sh scripts/install.sh

demo: install
	.venv/bin/lingraft run recipes/demo.toml

# The same base, text and training without new pieces: what the extension itself is worth.
control: demo
	.venv/bin/lingraft run recipes/demo.toml --set run.name=demo-control --set vocab.size=0 \
	    --set 'run.reuse=["runs/demo"]'

test: install
	PATH="$(CURDIR)/.venv/bin:$$PATH" sh scripts/test.sh

clean:
	rm -rf .venv
