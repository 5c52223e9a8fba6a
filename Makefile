# make                   build/libcadastre.so and build/libcadastre.a (release)
# make debug             build/debug/libcadastre.so: assertions and lock ranks checked
# make asan | make tsan  build/<variant>/libcadastre.a under a sanitizer, cadastre_* names only (the sanitizer owns
#                        the plain ones)
# make tests             every test program, under build/tests/
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
            -Wl,-soname,libcadastre.so -pthread

# Of the unit tests; not every machine has both.
SANITIZERS    ?= address,undefined

# Profiles of -pg are made by way of frame pointers.
release_FLAGS := -O2 -g $(if $(filter -pg,$(CFLAGS)),,-fomit-frame-pointer) -fno-semantic-interposition -DNDEBUG
debug_FLAGS   := -O1 -g -foptimize-sibling-calls -fno-omit-frame-pointer -DCADASTRE_DEBUG
asan_FLAGS    := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SANITIZERS) -fno-sanitize-recover=all \
                 -DCADASTRE_DEBUG -DCADASTRE_PREFIXED -DCADASTRE_SANITIZED
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

VARIANTS := release debug asan tsan
SHARED_ONLY := $(wildcard src/early.c src/operators.c src/loading.c)
SRCS     := $(filter-out $(SHARED_ONLY),$(wildcard src/*.c arena/*.c))

all: $(BUILD)/libcadastre.so $(BUILD)/libcadastre.a

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
$(1)_SHARED_OBJS := $$($(1)_OBJS) $$(SHARED_ONLY:%.c=$(BUILD)/$(1)/%.o)
$(BUILD)/$(1)/%.o: %.c Makefile $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(CC) $$(LIBFLAGS) $$($(1)_FLAGS) $$(CFLAGS) $$(REAL_CODE) -c $$< -o $$@
$(BUILD)/$(1)/libcadastre.so: $$($(1)_SHARED_OBJS)
	$$(CC) $$($(1)_FLAGS) $$(CFLAGS) $$(REAL_CODE) $$(SOFLAGS) $$(LDFLAGS) $$^ -o $$@
# One relocatable object whose hidden symbols are made local, so that none can clash with a program's own.
$(BUILD)/$(1)/libcadastre.a: $$($(1)_OBJS)
	$$(CC) -r -nostdlib $$^ -o $(BUILD)/$(1)/cadastre.o
	$$(OBJCOPY) --localize-hidden $(BUILD)/$(1)/cadastre.o
	@rm -f $$@
	$$(AR) rcs $$@ $(BUILD)/$(1)/cadastre.o
$(1): $(BUILD)/$(1)/libcadastre.a
-include $$($(1)_SHARED_OBJS:.o=.d)
endef
$(foreach v,$(VARIANTS),$(eval $(call variant_rules,$(v))))

release: all
debug: $(BUILD)/debug/libcadastre.so

# Never rewritten in place: a running program may have it mapped.
$(BUILD)/libcadastre.%: $(BUILD)/release/libcadastre.%
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
# tests/unit/*.c sees the library's own headers and links its objects (asan variant); every other group is a user of
# the built shared object, or of what TEST_LIBRARY says instead. Programs end in .t and speak TAP.
TESTS        ?= */*
TEST_LIBRARY ?= -L$(BUILD) -lcadastre -ldl -Wl,-rpath,'$$ORIGIN/../..'
TESTFLAGS  := $(STD) $(WARN) -Iinclude -Itests -O1 -g -fno-builtin -pthread -MMD -MP
TEST_SRCS  := $(wildcard $(TESTS:%=tests/%.c))
UNIT_SRCS  := $(filter tests/unit/%,$(TEST_SRCS))
USER_SRCS  := $(filter-out $(UNIT_SRCS),$(TEST_SRCS))
UNIT_TESTS := $(UNIT_SRCS:%.c=$(BUILD)/%.t)
USER_TESTS := $(USER_SRCS:%.c=$(BUILD)/%.t)

tests: all $(UNIT_TESTS) $(USER_TESTS)

$(BUILD)/tests/unit/%.t: tests/unit/%.c $(asan_OBJS) Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(TESTFLAGS) $(INC) $(asan_FLAGS) $(CFLAGS) $(REAL_CODE) $< $(asan_OBJS) -o $@

$(BUILD)/tests/%.t: tests/%.c $(BUILD)/libcadastre.so $(BUILD)/libcadastre.a Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(TESTFLAGS) $< $(TEST_LIBRARY) -o $@

-include $(UNIT_TESTS:.t=.d) $(USER_TESTS:.t=.d)

# ---------------------------------------------------------------------------------------- the benchmarks
# Linked with nothing of ours: the allocator under test is preloaded. bench/*.cc make one program, on google-benchmark.
ifeq ($(origin CXX),default)
CXX         := $(CROSS)g++
endif
SUITE_SRCS  := $(wildcard bench/*.cc)
SUITE_OBJS  := $(SUITE_SRCS:%.cc=$(BUILD)/%.o)
SUITE_FLAGS := -std=c++17 $(filter-out -Wmissing-prototypes -Wstrict-prototypes,$(WARN)) -O2 -g -fno-builtin -pthread \
               -MMD -MP
# For the self-test: glibc's malloc, slow, leaking, and neither.
PLANTED     := $(patsubst %,$(BUILD)/bench/planted-%.so,delay leak nothing)

bench: $(BUILD)/bench/kvserver $(BUILD)/bench/suite $(BUILD)/bench/nothing $(PLANTED)

$(BUILD)/bench/%.o: bench/%.cc Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CXX) $(SUITE_FLAGS) -c $< -o $@
$(BUILD)/bench/suite: $(SUITE_OBJS)
	$(CXX) -pthread $^ -lbenchmark -ldl -o $@
$(BUILD)/bench/planted-%.so: bench/planted.c Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) -O2 -fno-builtin -fPIC -shared -DPLANTED_$* $< -o $@
$(BUILD)/bench/%: bench/%.c Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) -Iinclude -O2 -g -fno-builtin -pthread -MMD -MP $< -ldl -o $@
-include $(SUITE_OBJS:.o=.d) $(BUILD)/bench/kvserver.d

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

install: all
	umask 022; mkdir -p $(INSTALLED)/lib/pkgconfig $(INSTALLED)/include $(MAN)/man3 $(MAN)/man7
	install -m 644 $(BUILD)/libcadastre.a $(INSTALLED)/lib/
	install -m 755 $(BUILD)/libcadastre.so $(INSTALLED)/lib/
	install -m 644 include/cadastre.h $(INSTALLED)/include/
	install -m 644 include/cadastre.3 $(MAN)/man3/
	install -m 644 include/cadastre.7 $(MAN)/man7/
	for name in $(MAN_NAMES); do ln -sf cadastre.3 $(MAN)/man3/$$name.3 || exit; done
	printf '%s\n' prefix=$(call quoted,$(PREFIX)) 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' \
	  'Name: cadastre' 'Description: a multi-arena malloc with an exact register of every live block' \
	  'Version: $(VERSION)' 'Cflags: -I"$${includedir}"' 'Libs: -L"$${libdir}" $(PC_LIBS)' \
	  'Libs.private: $(PC_LIBS_PRIVATE)' | install -m 644 /dev/stdin $(INSTALLED)/lib/pkgconfig/cadastre.pc

uninstall:
	rm -f $(INSTALLED)/lib/libcadastre.a $(INSTALLED)/lib/libcadastre.so $(INSTALLED)/include/cadastre.h \
	  $(INSTALLED)/lib/pkgconfig/cadastre.pc $(MAN)/man3/cadastre.3 $(MAN)/man7/cadastre.7 \
	  $(MAN_NAMES:%=$(MAN)/man3/%.3)

clean:
	rm -rf build

.PHONY: all release debug asan tsan ft_malloc tests bench install uninstall clean
# make -j clean all
ifneq ($(filter clean,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif
.DELETE_ON_ERROR:
