/* A library that takes 32 bytes of the static TLS which the loader has left for what is opened later. */
__attribute__((tls_model("initial-exec"))) __thread char filler[32] __attribute__((aligned(8)));

char *fill(void);

char *fill(void) {
    return filler;
}
