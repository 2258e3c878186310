# A thin front over Meson. `make` builds, `make check` tests, `make demo` shows the main job.
BUILD ?= build

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD)

check: all
	meson test -C $(BUILD) --print-errorlogs

.PHONY: all check
