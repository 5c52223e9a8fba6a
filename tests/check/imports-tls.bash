#!/usr/bin/env bash
# expected: src/os uses __tls_get_addr
# A thread-local that is not initial-exec: its first use in a thread allocates.
sed -i 's/^static char/static _Thread_local __attribute__((tls_model("global-dynamic"))) char/' src/os.c
