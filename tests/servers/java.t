#!/usr/bin/env bash
# java: javac compiles a threaded program, which then runs: direct buffers, native compression and thread
# churn, with the virtual machine's own memory (compiler, symbols, garbage collector) on the allocator as
# well.
set -u
source "$(dirname "$0")/lib.sh"
begin java default-jdk-headless:javac default-jdk-headless:java
live 384 256

round() {
    run compile javac javac -J-XX:-UsePerfData -J-Xmx"$((LIVE / 3))m" -d classes "$HERE/Threads.java"
    run threads java java -XX:-UsePerfData -Xmx"$((LIVE / 3))m" -XX:MaxDirectMemorySize="$((LIVE / 6))m" \
        -cp classes Threads $((LIVE / 3))
    (cd "$WORK" && find classes -name '*.class' | sort | xargs sha256sum) >"$WORK/classes.sums"
}

both round
same "the compiled classes" classes.sums
same "what the threads computed" log/threads.out
finish
