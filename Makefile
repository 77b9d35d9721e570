# Makefile - builds libslm2.a, the program slm2, the tests and the fuzz targets with plain GNU make and pkg-config.
#   make demo    install what is missing, build, run the whole recipe at nano scale
#   make test    install what is missing, build, run every test; the last line is "N passed, N failed"
#   make help    all targets and variables

CC      = gcc
CLANG   = clang
MODE    = release
WERROR  = 0
PREFIX  = /usr/local
DESTDIR =
JOBS   := $(shell nproc 2>/dev/null || echo 1)
# the parallelism of recursive builds, unless the user gave a -j of their own
SUBMAKE = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS))

BUILD_release = build
BUILD_debug   = build-debug
BUILD_asan    = build-asan
BUILD_cov     = build-cov
BUILD        := $(BUILD_$(MODE))
ifeq ($(BUILD),)
$(error MODE is "$(MODE)", want release, debug, asan or cov)
endif

# pkg-config runs when the first recipe needs it, never while this file is read: `make deps` may have to install it
PACKAGES   = libutf8proc jansson yaml-0.1 libzstd zlib sqlite3 libedit libmd libmicrohttpd libcurl
pkg        = $(shell pkg-config $(1) || echo '-DSEE_make_deps')
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(call pkg,--cflags $$(PACKAGES)))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $$(call pkg,--libs $$(PACKAGES)))$(PKG_LIBS)
TEST_LIBS  = $(eval TEST_LIBS := $$(call pkg,--libs cmocka))$(TEST_LIBS)

# many machines: MPI where its compiler wrapper is found; MPI=0 builds without, MPI=1 insists
MPI        = auto
MPICC      = mpicc
comma     := ,
MPI_SHOW  := $(if $(filter-out 0,$(MPI)),$(shell $(MPICC) -show 2>/dev/null))
ifeq ($(MPI)$(MPI_SHOW),1)
$(error MPI=1, but $(MPICC) is not found; install libopenmpi-dev and openmpi-bin, or build with MPI=0)
endif
MPI_CFLAGS := $(if $(MPI_SHOW),-DSLM2_MPI $(patsubst -I%,-isystem %,$(filter -I%,$(MPI_SHOW))))
MPI_LIBS   := $(if $(MPI_SHOW),-Wl$(comma)--as-needed $(filter -L% -l%,$(MPI_SHOW)))

WARN = -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual -Wcast-align -Wpointer-arith \
       -Wwrite-strings -Wundef -Wformat=2 -Wvla -Wswitch-enum -Wimplicit-fallthrough -Wnull-dereference -Wdouble-promotion
# `omp simd` is a wish: clang warns where it does not follow, gcc does not
WARN += $(if $(findstring clang,$(CC)),-Wno-pass-failed)
ifeq ($(WERROR),1)
WARN += -Werror
endif
SANITIZE      = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
MODE_release  = -O2 -g
MODE_debug    = -O0 -g3
MODE_asan     = -O1 -g $(SANITIZE)
MODE_cov      = -O0 -g --coverage
CFLAGS        = $(MODE_$(MODE))
LDFLAGS       =
LINK_asan     = $(SANITIZE)
LINK_cov      = --coverage
ALL_CFLAGS    = -std=gnu17 $(CFLAGS) $(WARN) -fopenmp -ffp-contract=off -Iinclude -Isrc -I. -Wa,-I. $(FUZZ_FLAGS)
ALL_LDFLAGS   = -fopenmp $(LINK_$(MODE)) $(FUZZ_FLAGS) $(LDFLAGS)
LIBS          = $(PKG_LIBS) $(MPI_LIBS) -lm -ldl
Q             = $(if $(filter 1,$(V)),,@)
say           = $(if $(Q),@echo "  $(1)",@:)

LIB_SRC   := $(filter-out src/cli/%,$(wildcard src/*/*.c))
CLI_SRC   := $(wildcard src/cli/*.c)
TEST_SRC  := $(wildcard tests/test_*.c tests/check_*.c tests/equal_*.c)
FUZZ_SRC  := $(wildcard fuzz/fuzz_*.c)
obj        = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB_OBJ   := $(call obj,$(LIB_SRC))
CLI_OBJ   := $(call obj,$(CLI_SRC))
TESTS     := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
FUZZ      := $(FUZZ_SRC:fuzz/%.c=$(BUILD)/fuzz/%)
LIB       := $(BUILD)/libslm2.a
BIN       := $(if $(CLI_SRC),$(BUILD)/slm2)
# libraries that tests load, or put in front of the program
PLUGINS   := $(BUILD)/tests/shim.so $(BUILD)/tests/fake_nvml.so

# tests that are too slow for a sanitizer in `make test`; all others run under ASan and UBSan too
ASAN_SLOW  = test_golden test_train test_stages test_newcomer test_selfknow test_kill% test_disk test_ablate equal_% check_%
ASAN_TESTS = $(filter-out $(ASAN_SLOW),$(notdir $(TESTS)))

always:

.PHONY: always help all lib tests deps demo test test-mpi kill-test kill-data asan check-all lint check-neon layers bench fuzz fuzz-bins clean install
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

all: $(LIB) $(BIN) ## the library and the program
lib: $(LIB)
tests: $(TESTS) $(PLUGINS) ## the test programs

help: ## this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  MODE=release|debug|asan|cov   what to build ($(BUILD_release)/, $(BUILD_debug)/, $(BUILD_asan)/, $(BUILD_cov)/)"
	@echo "  CC=clang  MPI=0  CFLAGS=...  WERROR=1  V=1  BUILD=dir  PREFIX=$(PREFIX)  DESTDIR=  DEMO_ARGS='-t 2'"

# ---- compile and link -----------------------------------------------------------------------------------------------
$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC   $<)
	$(Q)$(CC) $(ALL_CFLAGS) $(FILE_FLAGS) $(PKG_CFLAGS) -MMD -MP -c -o $@ $<

# each instruction set lives in one file and is chosen at run time: everything else stays at the baseline of the processor
MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null || uname -m)))
ifneq ($(filter x86_64 amd64,$(MACHINE)),)
$(BUILD)/obj/src/kernels/kernels_avx2.o: FILE_FLAGS = -mavx2 -mfma -mf16c -ffp-contract=off
AVX512 = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c
$(BUILD)/obj/src/kernels/kernels_avx512.o: FILE_FLAGS = $(AVX512)
$(BUILD)/obj/src/kernels/kernels_vnni.o: FILE_FLAGS = $(AVX512) -mavx512vnni
$(BUILD)/obj/src/kernels/kernels_attn.o $(BUILD)/obj/src/kernels/kernels_bf16.o: FILE_FLAGS = $(AVX512) -mavx512bf16
$(BUILD)/obj/src/kernels/peak_avx2.o: FILE_FLAGS = -mavx2 -mfma
$(BUILD)/obj/src/kernels/peak_avx512.o: FILE_FLAGS = $(AVX512) -mavx512vnni -mavx512bf16
else ifneq ($(filter aarch64 arm64,$(MACHINE)),)
$(BUILD)/obj/src/kernels/neon_dotprod.o: FILE_FLAGS = -march=armv8.2-a+dotprod
$(BUILD)/obj/src/kernels/neon_i8mm.o: FILE_FLAGS = -march=armv8.2-a+dotprod+i8mm
# gcc 12 fails on a loop of this file with an internal error
$(BUILD)/obj/tests/test_quant.o: FILE_FLAGS = -fno-tree-loop-vectorize
endif
$(BUILD)/obj/src/cli/share.o: FILE_FLAGS = -DSLM2_SHARE='"$(PREFIX)/share/slm2"'
$(BUILD)/obj/src/dist/comm_mpi.o: FILE_FLAGS = $(MPI_CFLAGS)
$(BUILD)/obj/src/dist/comm_mpi.o: $(BUILD)/mpi.flags
# code that reads foreign bytes must not narrow numbers silently
$(foreach f,reader file lines json conf conf_show http journal,$(BUILD)/obj/src/base/$(f).o): FILE_FLAGS = -Wconversion -Wno-sign-conversion

# embedded files (.incbin) are invisible to -MMD
INCBIN_SRC := $(shell grep -ls incbin $(LIB_SRC) $(CLI_SRC) /dev/null)
$(call obj,$(INCBIN_SRC)): $(wildcard assets/* assets/*/*)

# another MPI, or none: its file is compiled again
$(BUILD)/mpi.flags: always
	@mkdir -p $(@D)
	@echo '$(MPI_CFLAGS)' | cmp -s - $@ || echo '$(MPI_CFLAGS)' > $@

$(LIB): $(LIB_OBJ)
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR   $@)
	$(Q)$(AR) rcs $@ $(LIB_OBJ)

$(BUILD)/slm2: $(CLI_OBJ) $(LIB)
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(CLI_OBJ) $(LIB) $(LIBS)

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(LIB) $(TEST_LIBS) $(LIBS)

# they go into other processes: no sanitizer of their own
$(BUILD)/tests/%.so: tests/%.c
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE -O1 -g $(WARN) -shared -fPIC -o $@ $< -ldl

# with FUZZER=1 libFuzzer drives the targets, else fuzz/replay.c runs saved inputs and their mutations
REPLAY := $(if $(FUZZER),,$(BUILD)/obj/fuzz/replay.o)
$(BUILD)/fuzz/%: $(BUILD)/obj/fuzz/%.o $(REPLAY) $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(if $(FUZZER),-fsanitize=fuzzer) -o $@ $< $(REPLAY) $(LIB) $(LIBS)

.SECONDARY:
-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TEST_SRC:%.c=$(BUILD)/obj/%.d) $(FUZZ_SRC:%.c=$(BUILD)/obj/%.d) $(BUILD)/obj/fuzz/replay.d

# ---- what users call ------------------------------------------------------------------------------------------------
deps: ## install the Debian packages that are missing (says which)
	@CC='$(CC)' tools/deps.sh build test

demo: ## the whole recipe at nano scale on bundled text
	@CC='$(CC)' tools/deps.sh build
	@$(SUBMAKE) all
	$(BUILD)/slm2 demo $(DEMO_ARGS)

test: ## every test that a commit needs
	@CC='$(CC)' tools/deps.sh build test
	@$(SUBMAKE) all tests
	@$(SUBMAKE) MODE=asan BUILD=$(BUILD)-asan asan
	@tools/run_tests.sh $(BUILD) $(BUILD)-asan "$(ASAN_TESTS)"

KILLS = 50
SEED  = 1
kill-test: all tests ## KILLS=n SEED=s: a training run killed at n drawn moments ends with the bits of an undisturbed one
	$(BUILD)/tests/test_kill --kills $(KILLS) --seed $(SEED)

kill-data: $(BUILD)/tests/test_kill_data ## the same for data build
	$< $(KILLS) $(SEED)

test-mpi: ## several ranks: 1, 2, 4 and more give the same bits, resume with other numbers, survive the death of a rank
	@CC='$(CC)' tools/deps.sh build test
	@$(SUBMAKE) all $(BUILD)/tests/equal_mpi
	$(BUILD)/tests/equal_mpi full

asan: $(addprefix $(BUILD)/tests/,$(ASAN_TESTS)) $(PLUGINS) $(FUZZ)

check-all: ## slow checks: gcc and clang without warnings, all tests under sanitizers, a short demo, 64-bit Arm, lint
	@CC='$(CC)' tools/deps.sh build test
	$(SUBMAKE) CC=gcc WERROR=1 all tests fuzz-bins
	$(SUBMAKE) CC=$(CLANG) WERROR=1 BUILD=build-clang all tests fuzz-bins
	@$(SUBMAKE) MODE=asan BUILD=$(BUILD)-asan all tests fuzz-bins
	@tools/run_tests.sh $(BUILD) $(BUILD)-asan "$(notdir $(TESTS))"
	@$(SUBMAKE) KILLS=200 kill-data
	$(BUILD)/tests/equal_mpi full
	@$(SUBMAKE) KILLS=500 kill-test
	$(BUILD)/tests/test_disk --faults 200 --seed 2
	$(BUILD)/slm2 demo --out $(BUILD)/demo --steps 10
	test -s $(BUILD)/demo/summary.json && test -s $(BUILD)/demo/compare.json
	@$(MAKE) --no-print-directory WERROR=1 check-neon
	@$(MAKE) --no-print-directory lint

# What .clang-tidy and tools/cppcheck.txt leave out stands there with its reason; one line of code is excused by NOLINT(name of the check) behind it.
# the files of other instruction sets are read with their flags by the compiler only
TIDY_CHUNK = 8
TIDY_SRC   = $(filter-out $(addprefix src/kernels/,kernels_avx512.c kernels_vnni.c kernels_bf16.c kernels_attn.c peak_avx512.c neon% kernels_neon.c),$(LIB_SRC)) $(CLI_SRC) $(FUZZ_SRC)
lint: ## static analysis: cppcheck and clang-tidy, each where it is installed; fails at the first finding
	@if command -v cppcheck >/dev/null; then \
	    cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 --suppress=missingIncludeSystem \
	        --suppressions-list=tools/cppcheck.txt --include=tools/cppcheck.h -j $(JOBS) -Iinclude -Isrc src fuzz && echo "cppcheck: clean"; \
	else echo "cppcheck: skipped, not installed"; fi
	@if command -v clang-tidy >/dev/null; then \
	    printf '%s\n' $(TIDY_SRC) | xargs -P $(JOBS) -n $(TIDY_CHUNK) sh -c \
	        'clang-tidy --quiet "$$@" -- -std=gnu17 -fopenmp -Iinclude -Isrc -I. $(PKG_CFLAGS) $(MPI_CFLAGS)' tidy && echo "clang-tidy: clean"; \
	else echo "clang-tidy: skipped, not installed"; fi

# Built by Debian's cross compiler against unpacked arm64 packages, run by qemu as processors without integer dot products, with them, and
# with integer matrix products too: each finds its own kernels.
NEON         = build-neon
NEON_ROOT    = $(abspath $(NEON))/sysroot
NEON_LIB     = $(NEON_ROOT)/usr/lib/aarch64-linux-gnu
NEON_MAKE    = PKG_CONFIG_SYSROOT_DIR=$(NEON_ROOT) PKG_CONFIG_LIBDIR=$(NEON_LIB)/pkgconfig $(SUBMAKE) MPI=0 MODE=release BUILD=$(NEON) \
               CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar CFLAGS='$(MODE_release) -isystem $(NEON_ROOT)/usr/include -isystem $(NEON_ROOT)/usr/include/aarch64-linux-gnu' \
               LDFLAGS='-L$(NEON_LIB) -Wl,-rpath-link,$(NEON_LIB):$(NEON_ROOT)/lib/aarch64-linux-gnu'
NEON_TESTS   = $(filter test_kernels check_kernels check_products,$(notdir $(TESTS)))
NEON_ONCE    = $(filter check_ops test_quant,$(notdir $(TESTS))) # by the last processor only: they take longer
NEON_CPUS    = cortex-a53 neoverse-n1 max
check-neon: ## the kernels of 64-bit Arm, cross-built and run by qemu-user
	@CC='$(CC)' tools/deps.sh neon
	@tools/arm64_sysroot.sh $(NEON_ROOT)
	+@$(NEON_MAKE) $(NEON)/slm2 $(patsubst %,$(NEON)/tests/%,$(NEON_TESTS) $(NEON_ONCE))
	@tools/check_neon.sh $(NEON) "$(NEON_CPUS)" "$(NEON_TESTS)" "$(NEON_ONCE)"

layers: ## prints every #include that points up
	@tools/layers.sh

bench: all ## limits of this machine; with MODEL=path the speed of a model too
	$(BUILD)/slm2 bench limits
ifdef MODEL
	$(BUILD)/slm2 bench --model '$(MODEL)'
	$(BUILD)/slm2 bench --model '$(MODEL)' --contexts '$(or $(CONTEXTS),512,2048)' -n 32
	$(BUILD)/slm2 bench --model '$(MODEL)' --seqs 8,16 -p 32
endif

fuzz: ## fuzz targets for libFuzzer in build-fuzz/fuzz/ (clang)
	$(SUBMAKE) CC=$(CLANG) MODE=asan BUILD=build-fuzz FUZZER=1 FUZZ_FLAGS=-fsanitize=fuzzer-no-link fuzz-bins
	@echo "run one by: build-fuzz/fuzz/fuzz_NAME fuzz/corpus/NAME"

fuzz-bins: $(FUZZ)

clean: ## remove every build folder
	rm -rf build build-debug build-asan build-cov build-clang build-fuzz build-neon

install: all ## slm2, libslm2.a, slm2.h, configs and bundled text under $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/share/slm2
	cp -R configs assets $(DESTDIR)$(PREFIX)/share/slm2/
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include
	install -m 755 $(BUILD)/slm2 $(DESTDIR)$(PREFIX)/bin/slm2
	install -m 644 $(LIB) $(DESTDIR)$(PREFIX)/lib/libslm2.a
	install -m 644 include/slm2.h $(DESTDIR)$(PREFIX)/include/slm2.h
