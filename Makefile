# make                   build/libcadastre.so and build/libcadastre.a (release)
# make debug             build/debug/libcadastre.so: assertions and lock ranks checked
# make asan | make tsan  build/<variant>/libcadastre.a under a sanitizer, cadastre_* names only (the sanitizer owns
#                        the plain ones)
# make tests             every test program, under build/tests/
# make bench             the benchmark programs, under build/bench/
# make install           PREFIX=/usr/local DESTDIR=

# Another machine's: make CROSS=aarch64-linux-gnu-
ifeq ($(origin CC),default)
CC       := $(CROSS)gcc
endif
ifeq ($(origin AR),default)
AR       := $(CROSS)ar
endif
OBJCOPY  ?= $(CROSS)objcopy
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
SOFLAGS  := -shared -Wl,-z,nodelete -Wl,-z,noseparate-code -Wl,-z,relro -Wl,-z,now -Wl,-z,defs -Wl,-soname,libcadastre.so -pthread

release_FLAGS := -O2 -g -fomit-frame-pointer -fno-semantic-interposition -DNDEBUG
debug_FLAGS   := -O1 -g -fno-omit-frame-pointer -DCADASTRE_DEBUG
asan_FLAGS    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
                 -DCADASTRE_DEBUG -DCADASTRE_PREFIXED -DCADASTRE_SANITIZED
tsan_FLAGS    := -O1 -g -fno-omit-frame-pointer -fsanitize=thread -DCADASTRE_PREFIXED -DCADASTRE_SANITIZED

VARIANTS := release debug asan tsan
SHARED_ONLY := $(wildcard src/early.c src/operators.c)
SRCS     := $(filter-out $(SHARED_ONLY),$(wildcard src/*.c arena/*.c))

all: build/libcadastre.so build/libcadastre.a

# ------------------------------------------------------------------------------------------ the library
define variant_rules
$(1)_OBJS := $$(SRCS:%.c=build/$(1)/%.o)
$(1)_SHARED_OBJS := $$($(1)_OBJS) $$(SHARED_ONLY:%.c=build/$(1)/%.o)
build/$(1)/%.o: %.c Makefile
	@mkdir -p $$(@D)
	$$(CC) $$(LIBFLAGS) $$($(1)_FLAGS) $$(CFLAGS) -c $$< -o $$@
build/$(1)/libcadastre.so: $$($(1)_SHARED_OBJS)
	$$(CC) $$($(1)_FLAGS) $$(SOFLAGS) $$(LDFLAGS) $$^ -o $$@
# One relocatable object whose hidden symbols are made local, so that none can clash with a program's own.
build/$(1)/libcadastre.a: $$($(1)_OBJS)
	$$(CC) -r -nostdlib $$^ -o build/$(1)/cadastre.o
	$$(OBJCOPY) --localize-hidden build/$(1)/cadastre.o
	@rm -f $$@
	$$(AR) rcs $$@ build/$(1)/cadastre.o
$(1): build/$(1)/libcadastre.a
-include $$($(1)_SHARED_OBJS:.o=.d)
endef
$(foreach v,$(VARIANTS),$(eval $(call variant_rules,$(v))))

release: all
debug: build/debug/libcadastre.so

# Never rewritten in place: a running program may have it mapped.
build/libcadastre.%: build/release/libcadastre.%
	cp --remove-destination $< $@

# -------------------------------------------------------------------------------------------- the tests
# tests/unit/*.c sees the library's own headers and links its objects (asan variant); every other group is a user of
# the built shared object. Programs end in .t and speak TAP.
TESTFLAGS  := $(STD) $(WARN) -Iinclude -Itests -O1 -g -fno-builtin -pthread -MMD -MP
UNIT_SRCS  := $(wildcard tests/unit/*.c)
USER_SRCS  := $(filter-out $(UNIT_SRCS),$(wildcard tests/*/*.c))
UNIT_TESTS := $(UNIT_SRCS:%.c=build/%.t)
USER_TESTS := $(USER_SRCS:%.c=build/%.t)

tests: all $(UNIT_TESTS) $(USER_TESTS)

build/tests/unit/%.t: tests/unit/%.c $(asan_OBJS) Makefile
	@mkdir -p $(@D)
	$(CC) $(TESTFLAGS) $(INC) $(asan_FLAGS) $< $(asan_OBJS) -o $@

build/tests/%.t: tests/%.c build/libcadastre.so Makefile
	@mkdir -p $(@D)
	$(CC) $(TESTFLAGS) $< -Lbuild -lcadastre -ldl -Wl,-rpath,$(CURDIR)/build -o $@

-include $(UNIT_TESTS:.t=.d) $(USER_TESTS:.t=.d)

# ---------------------------------------------------------------------------------------- the benchmarks
# Linked with nothing of ours: the allocator under test is preloaded.
BENCH_SRCS := $(wildcard bench/*.c)
bench: $(BENCH_SRCS:%.c=build/%)
build/bench/%: bench/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) -Iinclude -O2 -g -fno-builtin -pthread -MMD -MP $< -ldl -o $@
-include $(BENCH_SRCS:%.c=build/%.d)

# ------------------------------------------------------------------------------------------- installing
install: all
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 644 build/libcadastre.a $(DESTDIR)$(PREFIX)/lib/
	install -m 755 build/libcadastre.so $(DESTDIR)$(PREFIX)/lib/
	install -m 644 include/cadastre.h $(DESTDIR)$(PREFIX)/include/
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' 'Name: cadastre' \
	  'Description: a multi-arena malloc with an exact register of every live block' 'Version: $(VERSION)' \
	  'Libs: -L$${libdir} -lcadastre' 'Libs.private: -pthread' 'Cflags: -I$${includedir}' \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/cadastre.pc

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/lib/libcadastre.a $(DESTDIR)$(PREFIX)/lib/libcadastre.so \
	  $(DESTDIR)$(PREFIX)/include/cadastre.h $(DESTDIR)$(PREFIX)/lib/pkgconfig/cadastre.pc

clean:
	rm -rf build

.PHONY: all release debug asan tsan tests bench install uninstall clean
.DELETE_ON_ERROR:
