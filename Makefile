# The short commands of thorns; `make help` lists them. CMake does the work (CMakePresets.json).

SHELL := /bin/sh
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Builds and test runs use this many jobs.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# What `make test` runs besides the release build's suite: any of asan, tsan; or nothing.
SANITIZERS ?= asan tsan
# How often `make test-long` kills a merge.
KILLS ?= 1000
# Minutes for each fuzz target.
MINUTES ?= 1
# `make DEPS=no ...` installs nothing.
DEPS ?= yes

PACKAGES := g++ cmake ninja-build libhwy-dev nlohmann-json3-dev libyaml-cpp-dev libcli11-dev \
            libfmt-dev libssl-dev libcurl4-openssl-dev ca-certificates openssl libeigen3-dev \
            libgtest-dev python3
FORMAT_PACKAGES := clang-format-14 python3
TIDY_PACKAGES := $(PACKAGES) clang-tidy-14
CLANG_PACKAGES := $(PACKAGES) clang-14 libclang-rt-14-dev
FUZZ_PACKAGES := $(CLANG_PACKAGES) llvm-14
BENCH_PACKAGES := $(PACKAGES) python3-numpy
BROWSER_PACKAGES := $(PACKAGES) chromium

ifeq ($(DEPS),no)
  need = @:
else
  need = @sh tools/install_packages.sh $(1)
endif

# The sanitizers' shadow memory and a kernel that scatters mappings widely do not go together;
# setarch -R asks for fixed addresses where the system lets it (containers often do not).
STILL := $(shell setarch -R true 2>/dev/null && echo setarch -R)

# Debian's python3 has numpy from python3-numpy; another one first in PATH may not.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
CLANG_FORMAT ?= $(shell command -v clang-format-14 || echo clang-format)
CLANG_TIDY ?= $(shell command -v clang-tidy-14 || echo clang-tidy)

CXX_FILES = $(wildcard include/thorns/*.h src/*/*.h src/*/*.cc tests/*.h tests/*.cc \
              tests/support/*.h tests/support/*.cc fuzz/*.h fuzz/*.cc bench/*.h bench/*.cc)
TIDY_FILES = $(filter-out %_test.cc,$(wildcard src/*/*.cc))

PUBLISHED_KEY := ({({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}{Holodeck[LIMA RP]})

# $(call configure,preset): once; CMake repeats it by itself when its own files change.
define configure
  @test -f $(1)/build.ninja || cmake --preset $(2) --log-level=WARNING
endef

.PHONY: all
all: deps  ## build the program: build/thorns
	$(call configure,build,release)
	@cmake --build build -j $(JOBS) --target thorns

.PHONY: demo
demo: all  ## build, write the demo family, merge the published key, show the first angles
	@$(PYTHON) demo/make_family.py
	@mkdir -p demo/out
	build/thorns merge "$(PUBLISHED_KEY)" --path demo/models --path demo/adapters \
	  -o demo/out/13B-Thorns --force

.PHONY: test
test: deps rooms format-check suites  ## build and run every test

# One ctest run over all builds, so that one line says how it went.
SUITES := release $(SANITIZERS)
folder_release := build
folder_asan := build-asan
folder_tsan := build-tsan
.PHONY: suites
suites: $(SUITES:%=build-suite-%)
	@mkdir -p build/all
	@printf 'subdirs("%s")\n' $(foreach suite,$(SUITES),'$(CURDIR)/$(folder_$(suite))') \
	  > build/all/CTestTestfile.cmake
	@$(STILL) ctest --test-dir build/all -j $(JOBS) --output-on-failure

.PHONY: build-suite-release build-suite-asan build-suite-tsan
build-suite-release: deps
	$(call configure,build,release)
	@$(STILL) cmake --build build -j $(JOBS)
build-suite-asan build-suite-tsan: build-suite-%:
	$(call need,$(CLANG_PACKAGES))
	$(call configure,build-$*,$*)
	@$(STILL) cmake --build build-$* -j $(JOBS)

.PHONY: asan tsan
asan tsan: %: build-suite-%  ## run the tests under AddressSanitizer and UBSan; ThreadSanitizer
	@$(STILL) ctest --preset $@ -j $(JOBS)

.PHONY: test-long
test-long: all  ## kill a merge KILLS times (default 1000) at random moments and go on with it
	@THORNS=build/thorns THORNS_KILLS=$(KILLS) $(PYTHON) -B tests/cli/test_kill.py

.PHONY: fuzz-build fuzz fuzz-report
fuzz-build:
	$(call need,$(FUZZ_PACKAGES))
	@PATH="/usr/lib/llvm-14/bin:$$PATH"; export PATH; \
	  test -f build-fuzz/build.ninja || cmake --preset fuzz --log-level=WARNING; \
	  cmake --build build-fuzz -j $(JOBS)
fuzz: fuzz-build  ## run every fuzz target for MINUTES minutes (default 1)
	@sh tools/run_fuzzers.sh $(MINUTES)
fuzz-report: fuzz-build  ## the same, and write executions and coverage to docs/security.md
	@$(PYTHON) tools/fuzz_report.py $(MINUTES) --jobs $(JOBS) --write

.PHONY: bench
bench:  ## measure against cat, cp and numpy; options in BENCH, e.g. BENCH=--quick
	$(call need,$(BENCH_PACKAGES))
	$(call configure,build,release)
	@cmake --build build -j $(JOBS) --target thorns
	@$(PYTHON) bench/run.py $(BENCH)

.PHONY: demo-dressed
demo-dressed: all  ## the same key over the same family in five formats
	@$(PYTHON) demo/make_family.py
	@$(PYTHON) demo/dress_family.py
	@mkdir -p demo/out
	build/thorns merge "$(PUBLISHED_KEY)" --path demo/dressed -m Holodeck=demo/dressed/Holodeck --path demo/adapters \
	  -o demo/out/13B-Thorns-Dressed --force

.PHONY: demo-check
demo-check: demo  ## load the demo's model in transformers and check every number (needs torch)
	@$(PYTHON) demo/check_with_transformers.py

.PHONY: report-check
report-check:  ## the report's page in headless Chromium: time, contrast, width, keys, print
	$(call need,$(BROWSER_PACKAGES))
	$(call configure,build,release)
	@cmake --build build -j $(JOBS) --target thorns
	@cd tests/cli && THORNS="$(CURDIR)/build/thorns" THORNS_BROWSER=required \
	  $(PYTHON) -B -m unittest -v test_report_browser

.PHONY: report-picture
report-picture: demo  ## docs/report.png, from the report of the demo
	$(call need,$(BROWSER_PACKAGES))
	build/thorns report demo/out/13B-Thorns
	@$(PYTHON) -B demo/report_picture.py

.PHONY: rooms
rooms: deps  ## check the arrows between the rooms, and other house rules
	@$(PYTHON) tools/check_rooms.py

.PHONY: format format-check
format:  ## lay out all C++ files
	$(call need,$(FORMAT_PACKAGES))
	@$(CLANG_FORMAT) -i $(CXX_FILES)
format-check:
	$(call need,$(FORMAT_PACKAGES))
	@$(CLANG_FORMAT) --dry-run --Werror $(CXX_FILES)

.PHONY: tidy
tidy:  ## run clang-tidy over the library and the program
	$(call need,$(TIDY_PACKAGES))
	@cmake --preset debug --log-level=WARNING
	@printf '%s\n' $(TIDY_FILES) | xargs -P $(JOBS) -n 1 $(CLANG_TIDY) --quiet -p build-debug

.PHONY: deps
deps:  ## install the packages that a build needs and that are not there
	$(call need,$(PACKAGES))

.PHONY: clean
clean:  ## remove everything that make built
	rm -rf build build-* demo/models demo/dressed demo/adapters demo/out bench/out

.PHONY: help
help:  ## this list
	@sed -n 's/^\([a-z -]*\):[^#]*## /\1\t/p' Makefile | sort | \
	  while IFS="$$(printf '\t')" read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done
