# Everything is set up in .venv with nothing else installed than Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
CLIP := tests/media/big_buck_bunny_5s.mp4
PHOTOGRAPH := tests/media/technician.jpg

.PHONY: demo test test-slow lint fuzz smoke wheel clean

.venv/.installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; set PYTHON=')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev,train]"
	touch $@

demo: .venv/.installed  ## where people would look in the clip and the photograph that come with the repository
	$(BIN)/avsal predict $(CLIP) --output demo/clip
	$(BIN)/avsal predict $(PHOTOGRAPH) --output demo/photograph
	@echo "look at demo/clip/report.html, demo/clip/overlay.mp4 and demo/photograph/report.html"

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/check_style.py

test: lint  ## the fast tests, at most ten minutes on two cores
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: .venv/.installed  ## interruptions, several processes, full-size networks, tools, 200 damaged files
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup --maxschedchunk 1 -m slow --times build/test_times_slow.json

fuzz: .venv/.installed  ## 2,000 damaged files for every command that reads them; needs torch
	$(BIN)/python -m tests.fuzz --found --count 2000 --seconds 600

smoke: .venv/.installed  ## one training step of every row of every config; needs the extra `train`
	$(BIN)/python tools/smoke.py

wheel: .venv/.installed
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv build dist demo
