# make demo   a corpus, a small model trained on it, songs: all of the main path, in minutes
# make test   lint, format and every test
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
DEMO_STEPS ?= 600
RUN := $(VENV)/bin/python
# Two files of tests at a time: most of their time is processes that start.
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-oldest test-oldest-jax lint clean

demo: $(VENV)/.installed
	$(RUN) scripts/render_corpus.py --out $(DEMO)/recordings
	$(RUN) -m mp3net.prepare --source $(DEMO)/recordings --out $(DEMO)/corpus --rate 5504
	$(RUN) -m mp3net.train --gin demo --data $(DEMO)/corpus --workdir $(DEMO)/run --gin_param 'train.steps = $(DEMO_STEPS)'
	$(RUN) benchmarks/demo.py --workdir $(DEMO)/run --data $(DEMO)/corpus
	$(RUN) -m mp3net.generate --ckpt $(DEMO)/run --n 8 --out $(DEMO)/songs
	@echo "Songs: $(abspath $(DEMO))/songs; the recordings that they were learnt from: $(abspath $(DEMO))/recordings"

test: $(VENV)/.installed lint
	$(RUN) -m pytest tests $(PARALLEL)

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# The oldest releases that are supported, with tensorflow-io: signal, data and a short training.
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest tests/test_mdct.py tests/test_psychoacoustics.py tests/test_files.py tests/test_corpus.py \
	  tests/test_crops.py tests/test_pipeline.py tests/test_mp3net.py tests/test_train_command.py tests/test_time_split.py tests/test_execution.py \
	  tests/test_scores.py tests/test_figures.py -k "not told and not resumption" $(PARALLEL)

# Training through JAX, with the oldest releases of it.
test-oldest-jax: .venv-oldest-jax/.installed
	.venv-oldest-jax/bin/python -m pytest tests/test_pjrt.py tests/test_portable.py \
	  -k "bit or xla or changed or public or ahead or several_devices" $(PARALLEL)

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable '.[cpu,aot,corpus,plots,test]'
	touch $@

.venv-oldest-jax/.installed: setup.py tests/oldest-jax.txt
	$(PYTHON) -m venv .venv-oldest-jax
	.venv-oldest-jax/bin/python -m pip install --quiet --upgrade pip
	.venv-oldest-jax/bin/python -m pip install --quiet --constraint tests/oldest-jax.txt --editable '.[cpu,jax,test]'
	touch $@

.venv-oldest/.installed: setup.py tests/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --upgrade pip
	.venv-oldest/bin/python -m pip install --quiet --constraint tests/oldest.txt --editable '.[tfio,corpus,plots,test]'
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest .venv-oldest-jax $(DEMO) build *.egg-info
