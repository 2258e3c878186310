# A thin front over Meson. `make help` says what there is.
BUILD ?= build

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@scripts/deps build
	meson setup $(BUILD)

help:
	@sed -n 's/^## //p' Makefile

## make               build everything into build/
## make check         every test suite, once plain and once under ASan+UBSan
check:
	@scripts/deps check
	@tools/check $(SUITES)

## make check-gpu     the checks that need hardware; skipped, with the reason, where there is none
check-gpu:
	@scripts/deps check
	@tools/check gpu

## make check-peers   with real PyTorch from PyPI (2 GB, once), without a GPU
check-peers:
	@scripts/deps check
	@tools/check peers

## make demo          the main job on an emulated RTX 4070 Ti; GPU_PROFILE=rtx4090, GPU=real,
##                    WORKER=python, TEXT='path …' (docs/demo.md)
demo:
	@BUILD=$(BUILD) GPU_PROFILE='$(GPU_PROFILE)' GPU='$(GPU)' TEXT='$(TEXT)' WORKER='$(WORKER)' \
	    demo/start

## make lint          clang-format, clang-tidy, cppcheck, codespell, shellcheck and the gates
lint:
	@scripts/deps lint
	@tools/lint

## make asan          build into build-asan/ with AddressSanitizer and UBSan
asan: build-asan/build.ninja
	ninja -C build-asan

build-asan/build.ninja:
	@scripts/deps build
	meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false

## make tsan          build into build-tsan/ with ThreadSanitizer
tsan: build-tsan/build.ninja
	ninja -C build-tsan

build-tsan/build.ninja:
	@scripts/deps build
	meson setup build-tsan -Db_sanitize=thread -Db_lundef=false

## make bench         figures of our own: a table and build/bench.json; ONLY=key,… for some,
##                    RUNS=3 to take the run in the middle
bench:
	@scripts/deps bench
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) RUNS=$(RUNS) tools/bench $(ONLY)

## make fuzz          fuzz each door for 60 s under ASan+UBSan; FUZZ_SECONDS=…, ONLY='target …'
fuzz:
	@scripts/deps fuzz
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) tools/fuzz $(ONLY)

## make check-user    the same as an ordinary user: 8 MiB of memlock, no XDG_RUNTIME_DIR
check-user: all
	@tools/check-as-user $(BUILD)

## make soak          batch after batch, everything killed on the way; SOAK=batches, SEED=n
soak:
	@scripts/deps build
	@$(MAKE) --no-print-directory all
	@BRIM_BUILD=$(BUILD) $(BUILD)/brim emulate --gpu rtx4070ti --free-lag 50ms -- \
	    python3 tests/soak/soak.py --batches $(or $(SOAK),100) $(if $(SEED),--seed $(SEED))

## make mutants       break one law of the budget at a time: its tests must fail each time
mutants:
	@tools/mutants

## make wheel         the Python package with the library and the programs inside, into dist/
wheel: all
	@BRIM_BUILD=$(BUILD) python3 python/packaging/backend.py dist

## make install       install; DESTDIR=/some/where for a package, PREFIX=/usr for another place
PREFIX ?= /usr/local
install:
	@scripts/deps build
	test -f build-install/build.ninja || meson setup build-install --buildtype=release -Db_ndebug=false
	meson configure build-install --prefix $(PREFIX)
	ninja -C build-install
	meson install -C build-install --no-rebuild

## make clean         remove what the build made
clean:
	rm -rf build build-asan build-tsan build-install build-clang build-fuzz build-fuzz-quick

.PHONY: all help check check-gpu check-peers check-user demo lint asan tsan bench wheel fuzz soak mutants install clean
