# Each target sets up what it needs: Python 3.10 or newer and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXAMPLE := src/mvdiff/assets/example.png
MESHES ?= meshes
DATA ?= data/train64
RUN ?= runs/tiny

.PHONY: help demo test test-full lint format weights clean

help:
	@echo "make demo       one picture -> sixteen views -> a mesh, in outputs/"
	@echo "make test       the tests (minutes)"
	@echo "make test-full  also the slow ones"
	@echo "make lint       ruff check and format --check"
	@echo "make weights    train the embedded model: MESHES=folder of models (optional)"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("mvdiff needs Python 3.10 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# torch first and pinned: an open range would pull CUDA packages onto any machine
	$(BIN)/python -m pip install --quiet "torch==$$(sed -n 's/^torch==//p' constraints.txt)" -c constraints.txt
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	touch $@

demo: $(STAMP)
	$(BIN)/mvdiff generate image=$(EXAMPLE) elevation=20 out=outputs
	@echo "look at outputs/example/sample-0/preview.png and mesh.glb"

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-full: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The recipe of the embedded weights (the model card says how that run differed). Interrupted, it
# goes on where it stopped. The commas of MIX and FINE would end an argument of $(if).
MIX := 'source_weights={mesh: 0.65, shape: 0.35}'
ALONE := unet=none attention=none
# First the rendering at half the resolution, then at the whole.
FINE := 'source_weights={mesh: 0.8, shape: 0.2}'
FINER := train.views=3 train.lr=3e-3 train.warmup=30 train.ema_decay=0.995 train.augment.color_prob=0.4 \
	train.augment.degrade_prob=0.15
# … and once more, slower.
LAST := train.views=3 train.steps=800 train.lr=2e-3 train.warmup=30 train.ema_decay=0.99 \
	train.augment.color_prob=0.4 train.augment.degrade_prob=0.15
# On top of the finished rendering, the UNet and what it alone looks at.
UNET := 'train.groups=[{match: [unet., embedder., project., radiance_stem., volume.frustum_net.]}]' \
	train.views=3 train.steps=1000 train.lr=3e-3 train.ema_decay=0.995 train.warmup=50 \
	train.augment.color_prob=0.4 train.augment.degrade_prob=0.15 train.scheduled_sampling=0.5
TRAIN := $(BIN)/mvdiff train recipe=tiny data=$(DATA)
weights: $(STAMP)
	$(BIN)/mvdiff render num_shapes=5000 $(if $(wildcard $(MESHES)),meshes=$(MESHES) num_stretched_copies=2,) held_out=src/mvdiff/assets/held_out.txt out=$(DATA)
	$(TRAIN) out=$(RUN)-coarse $(ALONE) radiance.coarser=2 train.steps=3000 $(if $(wildcard $(MESHES)),$(MIX),)
	$(BIN)/mvdiff export run_dir=$(RUN)-coarse out=$(RUN)-coarse/weights.safetensors
	$(TRAIN) out=$(RUN)-fine $(ALONE) weights=$(RUN)-coarse/weights.safetensors train.steps=1500 $(FINER) $(if $(wildcard $(MESHES)),$(FINE),)
	$(BIN)/mvdiff export run_dir=$(RUN)-fine out=$(RUN)-fine/weights.safetensors
	$(TRAIN) out=$(RUN)-last $(ALONE) weights=$(RUN)-fine/weights.safetensors $(LAST) $(if $(wildcard $(MESHES)),$(FINE),)
	$(BIN)/mvdiff export run_dir=$(RUN)-last out=$(RUN)-last/weights.safetensors
	$(TRAIN) out=$(RUN) weights=$(RUN)-last/weights.safetensors $(UNET) $(if $(wildcard $(MESHES)),$(FINE),)
	$(BIN)/mvdiff export run_dir=$(RUN) out=src/mvdiff/assets/tiny.safetensors
	$(BIN)/python -m mvdiff.training.train_elevation data=$(DATA) out=$(RUN)-elevation steps=2500 weights=src/mvdiff/assets/elevation.safetensors

clean:
	rm -rf $(VENV) outputs build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis
