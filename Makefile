# make                   build/libcadastre.so and build/libcadastre.a (release), and libmemory_mapper.so and .a
# make debug             build/debug/libcadastre.so: assertions and lock ranks checked
# make asan | make tsan  build/<variant>/libcadastre.a under a sanitizer, cadastre_* names only (the sanitizer owns
#                        the plain ones), and the stress program with it, build/<variant>/stress
# make callgraph         beside each object of build/callgraph/ its call graph with the sizes of frames, by gcc alone
#                        (scripts/stack reads them)
# make tests             every test program, under build/tests/
# make fuzz              the fuzzers of tests/fuzz, by clang (scripts/fuzz runs them)
# make bench             the benchmark programs, under build/bench/
# make ft_malloc         build/libft_malloc_$HOSTTYPE.so and a link to it, libft_malloc.so
# make install           PREFIX=/usr/local DESTDIR=
#
# CC, CFLAGS and LDFLAGS are the builder's, and a change of theirs builds all anew; `make install` alone takes what was
# built, whatever its flags were.

# A word of the shell's: paths may have spaces in them.
quoted    = '$(subst ','\'',$(1))'

# Another machine's, in a directory of its own: make CROSS=aarch64-linux-gnu-
ifeq ($(origin CC),default)
CC       := $(CROSS)gcc
endif
ifeq ($(origin AR),default)
AR       := $(CROSS)ar
endif
OBJCOPY  ?= $(CROSS)objcopy
BUILD    := build$(addprefix /,$(notdir $(CROSS:%-=%)))
PREFIX   ?= /usr/local
DESTDIR  ?=
VERSION  := 0.1.0

WARN     := -Wall -Wextra -Wundef -Wshadow -Wconversion -Wmissing-prototypes -Wstrict-prototypes \
            -Wno-sign-conversion -Wvla $(if $(CI),-Werror)
STD      := -std=c11 -D_GNU_SOURCE
INC      := -Iinclude -Isrc -Iarena
# The allocator may not turn its own malloc + memset into calloc, nor assume what malloc returns.
LIBFLAGS := $(STD) $(INC) $(WARN) -fPIC -fvisibility=hidden -ftls-model=initial-exec -fno-builtin-malloc \
            -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free -fno-plt -pthread -MMD -MP
# Symbols can be made local in code only, and not in what -flto leaves for the linker to compile.
REAL_CODE := -fno-lto
SOFLAGS  := -shared -Wl,-z,nodelete -Wl,-z,noseparate-code -Wl,-z,relro -Wl,-z,now -Wl,-z,defs \
            -Wl,--sort-section=name -Wl,-soname,libcadastre.so -pthread

# Of the unit tests; not every machine has both.
SANITIZERS    ?= address,undefined

# Profiles of -pg are made by way of frame pointers.
release_FLAGS := -O2 -g -falign-functions=64 $(if $(filter -pg,$(CFLAGS)),,-fomit-frame-pointer) \
                 -fno-semantic-interposition -DNDEBUG
debug_FLAGS   := -O1 -g -foptimize-sibling-calls -fno-omit-frame-pointer -DCADASTRE_DEBUG
asan_FLAGS    := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SANITIZERS) -fno-sanitize-recover=all \
                 -DCADASTRE_DEBUG -DCADASTRE_PREFIXED -DCADASTRE_SANITIZED
fuzz_FLAGS     = $(asan_FLAGS) -fsanitize=fuzzer-no-link
callgraph_FLAGS = $(release_FLAGS) -fcallgraph-info=su
tsan_FLAGS    := -O1 -g -fno-omit-frame-pointer -fsanitize=thread -DCADASTRE_PREFIXED -DCADASTRE_SANITIZED

# Sanitizers that would have the standard names for themselves; and what of clang's calls code that is not relocated
# yet, or that clang links with programs only.
OWN_MALLOC := $(strip $(foreach s,address thread memory leak,$(findstring $(s),$(filter -fsanitize=%,$(CFLAGS)))))
GCC_ALONE  := $(filter -pg $(if $(findstring -fsanitize-trap,$(CFLAGS)),,-fsanitize=undefined),$(CFLAGS))
ifneq ($(OWN_MALLOC),)
$(error CFLAGS has -fsanitize=$(OWN_MALLOC), which brings a malloc of its own: use `make asan` or `make tsan`)
else ifneq ($(and $(GCC_ALONE),$(findstring clang,$(shell $(CC) --version))),)
$(error CFLAGS has $(GCC_ALONE), which of clang cannot be in this library: use gcc, or -fsanitize-trap=undefined)
endif

VARIANTS := release debug asan tsan fuzz callgraph
SHARED_ONLY := $(wildcard src/early.c src/operators.c src/loading.c)
ARCHIVE_ONLY := $(wildcard src/plugin.c)
STRESS_SRCS := $(wildcard tests/stress/programs/*.c)
SRCS     := $(filter-out $(SHARED_ONLY) $(ARCHIVE_ONLY),$(wildcard src/*.c arena/*.c))

# The second library, for programs that map memory on purpose; on its own.
MAPPER   := $(BUILD)/libmemory_mapper.so $(BUILD)/libmemory_mapper.a
MAPPER_SRCS := $(wildcard src/mapper/*.c)

all: $(BUILD)/libcadastre.so $(BUILD)/libcadastre.a $(MAPPER)

# Holds what all was built with, and is written anew only when that changes.
FLAGS := $(CC) $(CFLAGS) -- $(LDFLAGS)
ifneq ($(MAKECMDGOALS),install)
ifneq ($(file <$(BUILD)/flags),$(FLAGS))
.PHONY: $(BUILD)/flags
endif
endif
$(BUILD)/flags:
	@mkdir -p $(@D)
	@printf '%s\n' $(call quoted,$(FLAGS)) >$@

# ------------------------------------------------------------------------------------------ the library
define variant_rules
$(1)_OBJS := $$(SRCS:%.c=$(BUILD)/$(1)/%.o)
$(1)_ARCHIVE_OBJS := $$($(1)_OBJS) $$(ARCHIVE_ONLY:%.c=$(BUILD)/$(1)/%.o)
$(1)_SHARED_OBJS := $$($(1)_OBJS) $$(SHARED_ONLY:%.c=$(BUILD)/$(1)/%.o)
$(BUILD)/$(1)/%.o: %.c Makefile $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(CC) $$(LIBFLAGS) $$($(1)_FLAGS) $$(CFLAGS) $$(REAL_CODE) -c $$< -o $$@
$(BUILD)/$(1)/libcadastre.so: $$($(1)_SHARED_OBJS)
	$$(CC) $$($(1)_FLAGS) $$(CFLAGS) $$(REAL_CODE) $$(SOFLAGS) $$(LDFLAGS) $$^ -o $$@
# One relocatable object whose hidden symbols are made local, so that none can clash with a program's own.
$(BUILD)/$(1)/libcadastre.a: $$($(1)_ARCHIVE_OBJS)
	$$(CC) -r -nostdlib $$^ -o $(BUILD)/$(1)/cadastre.o
	$$(OBJCOPY) --localize-hidden $(BUILD)/$(1)/cadastre.o
	@rm -f $$@
	$$(AR) rcs $$@ $(BUILD)/$(1)/cadastre.o
$(1): $(BUILD)/$(1)/libcadastre.a
# The stress program is a user of the library in each variant, under the names that all of them have.
$(BUILD)/$(1)/tests/%.o: tests/%.c Makefile $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(CC) $$(TESTFLAGS) -Isrc $$($(1)_FLAGS) $$(CFLAGS) $$(REAL_CODE) -c $$< -o $$@
$(BUILD)/$(1)/stress: $$(STRESS_SRCS:%.c=$(BUILD)/$(1)/%.o) $(BUILD)/$(1)/libcadastre.a
	$$(CC) $$($(1)_FLAGS) $$(CFLAGS) $$(REAL_CODE) $$(LDFLAGS) -pthread $$^ -o $$@
-include $$($(1)_SHARED_OBJS:.o=.d) $$($(1)_ARCHIVE_OBJS:.o=.d) $$(STRESS_SRCS:%.c=$(BUILD)/$(1)/%.d)
endef
$(foreach v,$(VARIANTS),$(eval $(call variant_rules,$(v))))

release: all
debug: $(BUILD)/debug/libcadastre.so
callgraph: $(callgraph_SHARED_OBJS)
ifneq ($(STRESS_SRCS),)
asan tsan: %: $(BUILD)/%/stress
endif

$(BUILD)/release/libmemory_mapper.so: $(MAPPER_SRCS:%.c=$(BUILD)/release/%.o)
	$(CC) $(release_FLAGS) $(CFLAGS) $(REAL_CODE) $(SOFLAGS) $(LDFLAGS) -Wl,-soname,libmemory_mapper.so $^ -o $@
$(BUILD)/release/libmemory_mapper.a: $(MAPPER_SRCS:%.c=$(BUILD)/release/%.o)
	$(CC) -r -nostdlib $^ -o $(BUILD)/release/memory_mapper.o
	$(OBJCOPY) --localize-hidden $(BUILD)/release/memory_mapper.o
	@rm -f $@
	$(AR) rcs $@ $(BUILD)/release/memory_mapper.o
-include $(foreach v,$(VARIANTS),$(MAPPER_SRCS:%.c=$(BUILD)/$(v)/%.d))

# Never rewritten in place: a running program may have it mapped.
$(BUILD)/lib%: $(BUILD)/release/lib%
	cp --remove-destination $< $@

# ---------------------------------------------------------------------------- under the school subject's name
HOSTTYPE ?=
FT_MALLOC := libft_malloc_$(or $(HOSTTYPE),$(shell uname -m)_$(shell uname -s)).so

ft_malloc: $(BUILD)/$(FT_MALLOC)
	ln -sf $(FT_MALLOC) $(BUILD)/libft_malloc.so

# Linked again, for a program that is linked with it looks for the name that it has inside.
$(BUILD)/$(FT_MALLOC): $(release_SHARED_OBJS)
	$(CC) $(release_FLAGS) $(CFLAGS) $(REAL_CODE) $(SOFLAGS) $(LDFLAGS) -Wl,-soname,libft_malloc.so $^ -o $@

# -------------------------------------------------------------------------------------------- the tests
# tests/unit/*.c sees the library's own headers and links its objects (asan variant), as do tests/faults/*.c, where the
# test stands between it and the kernel; tests/mapper/*.c and tests/ring/*.c are users of the second library, with and
# without a sanitizer; every other group is a user of the built shared object, or of what TEST_LIBRARY says instead.
# Programs end in .t and speak TAP.
TESTS        ?= */*
TEST_LIBRARY ?= -L$(BUILD) -lcadastre -ldl -Wl,-rpath,'$$ORIGIN/../..'
TESTFLAGS  := $(STD) $(WARN) -Iinclude -Itests -O1 -g -fno-builtin -pthread -MMD -MP
TEST_SRCS  := $(wildcard $(TESTS:%=tests/%.c))
UNIT_SRCS  := $(filter tests/unit/% tests/faults/%,$(TEST_SRCS))
MAPPER_TEST_SRCS := $(filter tests/mapper/% tests/ring/%,$(TEST_SRCS))
FUZZ_SRCS  := $(wildcard tests/fuzz/*.c)
USER_SRCS  := $(filter-out $(UNIT_SRCS) $(FUZZ_SRCS) $(MAPPER_TEST_SRCS),$(TEST_SRCS))
UNIT_TESTS := $(UNIT_SRCS:%.c=$(BUILD)/%.t)
USER_TESTS := $(USER_SRCS:%.c=$(BUILD)/%.t)
MAPPER_TESTS := $(foreach d,tests tests-asan tests-tsan,$(MAPPER_TEST_SRCS:tests/%.c=$(BUILD)/$(d)/%.t))

tests: all $(UNIT_TESTS) $(USER_TESTS) $(MAPPER_TESTS)

# Those that include tests/faults/kernel.h
WRAPPED    := -Wl,--wrap=mmap,--wrap=munmap,--wrap=mremap,--wrap=madvise,--wrap=mprotect
$(BUILD)/tests/faults/%.t $(BUILD)/tests/unit/stacks.t: KERNEL := $(WRAPPED)

$(UNIT_TESTS): $(BUILD)/%.t: %.c $(asan_OBJS) Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(TESTFLAGS) $(INC) $(asan_FLAGS) $(CFLAGS) $(REAL_CODE) $(KERNEL) $< $(asan_OBJS) -o $@

$(USER_TESTS): $(BUILD)/%.t: %.c $(BUILD)/libcadastre.so $(BUILD)/libcadastre.a Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(TESTFLAGS) $< $(TEST_LIBRARY) -o $@

# The system calls that can fail, for a test that lets them.
FAULTS := open stat fstat shm_open shm_unlink mmap munmap mprotect msync close fallocate getrlimit process_vm_readv \
          process_vm_writev
%/mapper/faults.t: FAULT_FLAGS = $(FAULTS:%=-Wl,--wrap=%)
define mapper_test_rule
$(MAPPER_TEST_SRCS:tests/%.c=$(BUILD)/$(1)/%.t): $(BUILD)/$(1)/%.t: tests/%.c $(2) Makefile $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(CC) $(TESTFLAGS) $(3) $$(CFLAGS) $$(REAL_CODE) $$(FAULT_FLAGS) $$< $(2) -o $$@
endef
$(eval $(call mapper_test_rule,tests,$(BUILD)/libmemory_mapper.a))
$(foreach v,asan tsan,$(eval $(call mapper_test_rule,tests-$(v),$(MAPPER_SRCS:%.c=$(BUILD)/$(v)/%.o),$($(v)_FLAGS))))

-include $(UNIT_TESTS:.t=.d) $(USER_TESTS:.t=.d) $(MAPPER_TESTS:.t=.d)

# libFuzzer is clang's own. What is to be covered is the library, not the target that drives it.
FUZZERS    := $(FUZZ_SRCS:%.c=$(BUILD)/%)
$(BUILD)/fuzz/% $(BUILD)/tests/fuzz/%: CC := clang
$(BUILD)/tests/fuzz/api: KERNEL := $(WRAPPED)

fuzz: $(FUZZERS)

$(FUZZERS): $(BUILD)/%: %.c $(fuzz_OBJS) Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(TESTFLAGS) $(INC) $(asan_FLAGS) $(CFLAGS) $(REAL_CODE) -c $< -o $@.o
	$(CC) $(asan_FLAGS) -fsanitize=fuzzer $(CFLAGS) $(REAL_CODE) -pthread $(KERNEL) $@.o $(fuzz_OBJS) -o $@

-include $(FUZZERS:=.d)

# ---------------------------------------------------------------------------------------- the benchmarks
# Linked with nothing of ours: the allocator under test is preloaded. bench/*.cc make one program, on google-benchmark;
# but bench/ring.cc is one of its own, of the second library.
ifeq ($(origin CXX),default)
CXX         := $(CROSS)g++
endif
SUITE_SRCS  := $(filter-out bench/ring.cc,$(wildcard bench/*.cc))
SUITE_OBJS  := $(SUITE_SRCS:%.cc=$(BUILD)/%.o)
SUITE_FLAGS := -std=c++17 $(filter-out -Wmissing-prototypes -Wstrict-prototypes,$(WARN)) -O2 -g -fno-builtin -pthread \
               -MMD -MP
# For the self-test: glibc's malloc, slow, leaking, and neither.
PLANTED     := $(patsubst %,$(BUILD)/bench/planted-%.so,delay leak nothing)

bench: $(BUILD)/bench/kvserver $(BUILD)/bench/suite $(BUILD)/bench/ring $(BUILD)/bench/nothing \
       $(BUILD)/bench/start $(PLANTED)

$(BUILD)/bench/%.o: bench/%.cc Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CXX) $(SUITE_FLAGS) -c $< -o $@
$(BUILD)/bench/suite: $(SUITE_OBJS)
	$(CXX) -pthread $^ -lbenchmark -ldl -o $@
$(BUILD)/bench/ring.o: SUITE_FLAGS += -Iinclude
$(BUILD)/bench/ring: $(BUILD)/bench/ring.o $(BUILD)/libmemory_mapper.a
	$(CXX) -pthread $^ -lbenchmark -o $@
$(BUILD)/bench/planted-%.so: bench/planted.c Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) -O2 -fno-builtin -fPIC -shared -DPLANTED_$* $< -o $@
$(BUILD)/bench/%: bench/%.c Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) -Iinclude -O2 -g -fno-builtin -pthread -MMD -MP $< -ldl -o $@
-include $(SUITE_OBJS:.o=.d) $(BUILD)/bench/ring.d $(BUILD)/bench/kvserver.d

# ------------------------------------------------------------------------------------------- installing
# A program may call malloc through its other libraries alone: the linker is to take ours for it all the same.
PC_LIBS         := -Wl,--push-state,--no-as-needed -lcadastre -Wl,--pop-state
PC_LIBS_PRIVATE := -Wl,-u,malloc -pthread

# Directories that are there already keep their modes, which `install -d` would change.
INSTALLED := $(call quoted,$(DESTDIR)$(PREFIX))

# cadastre(3) under the names of our own functions; malloc(3) and its kin stay the C library's.
MAN       := $(INSTALLED)/share/man
MAN_NAMES  = $(shell sed -nE 's/^[a-z].*[ *](cadastre_\w+|show_\w+|malloc_(good_)?size)\(.*\).*/\1/p' \
               include/cadastre.h)

# Those of the second library go by the names of all the functions of the header that they are of.
MAPPER_PAGES = $(filter-out cadastre,$(patsubst include/%.3,%,$(wildcard include/*.3)))
mapper_names = $(shell sed -nE 's/^[a-z].*[ *](\w+)\(.*\);$$/\1/p' include/$(1).h)

# NAME,DESCRIPTION,LIBS,LIBS_PRIVATE
pc_file    = printf '%s\n' prefix=$(call quoted,$(PREFIX)) 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' \
	  'Name: $(1)' 'Description: $(2)' 'Version: $(VERSION)' 'Cflags: -I"$${includedir}"' \
	  'Libs: -L"$${libdir}" $(3)' 'Libs.private: $(4)' | install -m 644 /dev/stdin $(INSTALLED)/lib/pkgconfig/$(1).pc

install: all
	umask 022; mkdir -p $(INSTALLED)/lib/pkgconfig $(INSTALLED)/include $(MAN)/man3 $(MAN)/man7
	install -m 644 $(BUILD)/libcadastre.a $(BUILD)/libmemory_mapper.a $(INSTALLED)/lib/
	install -m 755 $(BUILD)/libcadastre.so $(BUILD)/libmemory_mapper.so $(INSTALLED)/lib/
	install -m 644 $(wildcard include/*.h) $(INSTALLED)/include/
	install -m 644 $(wildcard include/*.3) $(MAN)/man3/
	install -m 644 include/cadastre.7 $(MAN)/man7/
	for name in $(MAN_NAMES); do ln -sf cadastre.3 $(MAN)/man3/$$name.3 || exit; done
	$(foreach p,$(MAPPER_PAGES),for name in $(call mapper_names,$(p)); do \
	  ln -sf $(p).3 $(MAN)/man3/$$name.3 || exit; done;)
	$(call pc_file,cadastre,a multi-arena malloc with an exact register of every live block,$(PC_LIBS),$(PC_LIBS_PRIVATE))
	$(call pc_file,memory_mapper,files and memory shared between processes,-lmemory_mapper,-pthread)

uninstall:
	rm -f $(foreach l,cadastre memory_mapper,$(INSTALLED)/lib/lib$(l).a $(INSTALLED)/lib/lib$(l).so \
	  $(INSTALLED)/lib/pkgconfig/$(l).pc) $(patsubst %,$(INSTALLED)/%,$(wildcard include/*.h)) \
	  $(patsubst include/%,$(MAN)/man3/%,$(wildcard include/*.3)) $(MAN)/man7/cadastre.7 \
	  $(patsubst %,$(MAN)/man3/%.3,$(MAN_NAMES) $(foreach p,$(MAPPER_PAGES),$(call mapper_names,$(p))))

clean:
	rm -rf build

.PHONY: all release debug asan tsan ft_malloc tests fuzz bench install uninstall clean
# make -j clean all
ifneq ($(filter clean,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif
.DELETE_ON_ERROR:
