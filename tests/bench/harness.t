#!/usr/bin/env bash
# usage: tests/bench/harness.t
# scripts/bench: that it sees what it is to see, that a wrong call is told what is wrong with it, and that a run leaves
# every line, table and picture that it promises. No time is judged.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

bench=$ROOT/scripts/bench

# refuses EXPECTED ARGUMENT...: one line that contains EXPECTED, and an exit status that is not 0, at once.
refuses() {
    local expected=$1
    shift
    ! timeout 60 "$bench" "$@" >"$WORK/out" 2>"$WORK/err" || { echo "exits with 0"; return 1; }
    [ ! -s "$WORK/out" ] && [ "$(grep -vc '^building' "$WORK/err")" = 1 ] && contains "$expected" "$WORK/err"
}

# The first call builds, in silence unless that takes a while.
ok "the harness sees a planted delay, a planted leak and a failed preload" "$bench" --self-test

ok "an unknown option is named" refuses '--bogus: no such option' --bogus
ok "an option without its value is named" refuses '--filter wants a value' --filter
ok "--repeats wants a number" refuses '--repeats many: wants a number' --repeats many
ok "--against wants a file" refuses "--against $WORK/none.so: no such file" --against "$WORK/none.so"

# Through a link, from elsewhere, into a directory and with a library whose names have spaces.
run_a_little() {
    mkdir "$WORK/a place" && ln -s "$bench" "$WORK/linked bench" || return 1
    cp "$BUILD/bench/planted-nothing.so" "$WORK/a place/other one.so" || return 1
    (cd "$WORK" && './linked bench' --filter '^(small/pair|map/show-1k)/1$' --repeats 1 --output 'a place/results' \
        --against 'a place/other one.so') >"$WORK/out"
}
ok "a run, through a link, in a place with spaces" run_a_little
# By now all is installed, so that they say nothing else.
ok "--filter wants a regular expression" refuses '--filter [: not a regular expression' --filter '['
ok "--filter that leaves nothing is refused" refuses '--filter nosuch: no point has such a name' --filter nosuch

compares_the_ring() {
    "$bench" --ring --filter 'round-trip/(ring|pipe)/' >"$WORK/out" && grep -E '^ring +- +- +[0-9.]+ us$' "$WORK/out" &&
        grep -E '^pipe +- +- +[0-9.]+ us$' "$WORK/out"
}
ok "--ring shows the ring beside a pipe" compares_the_ring

compares_starts() {
    "$bench" --start >"$WORK/out" && grep -E '^glibc +[1-9][0-9]* +\+0 ' "$WORK/out" &&
        grep -E '^cadastre +[1-9][0-9]* +[-+][0-9]+ +[1-9][0-9]* +[1-9][0-9]* +[1-9][0-9]* +[-+][0-9]+ ' "$WORK/out"
}
ok "--start shows what starting costs, beside glibc" compares_starts

sees_a_preload_that_failed() {
    echo text >"$WORK/text.so"
    ! "$bench" --start --against "$WORK/text.so" >"$WORK/out" 2>"$WORK/err" &&
        contains "$WORK/text.so: cannot be preloaded" "$WORK/err"
}
ok "and that a library was not preloaded" sees_a_preload_that_failed

leaves_curves() {
    "$bench" --growth --filter '^growth/(live-10{3,4}|threads)/[12]$' --repeats 1 --output "$WORK/growth" >"$WORK/out" &&
        grep -E '^\| live +\| +1,000 \| +10,000 \| ' "$WORK/growth/growth.md" &&
        grep -E '^\| threads +\| +1 \| +2 \| ' "$WORK/growth/growth.md" &&
        contains '</svg>' "$WORK/growth/growth.svg" && [ ! -e "$WORK/growth/runs.csv" ]
}
ok "--growth makes curves" leaves_curves

tells_what_stays() {
    "$bench" --idle --filter '^idle/large-(freed|live)-ended/1$' --repeats 1 --output "$WORK/idle" >"$WORK/out" || return 1
    awk -F'|' '$2 ~ /^ large-freed-ended/ { none = $4 } $2 ~ /^ large-live-ended/ { all = $4 }
        END { exit !(none + 0 == 0 && all + 0 > 16) }' "$WORK/idle/idle.md" && contains '</svg>' "$WORK/idle/idle.svg"
}
ok "--idle tells what is live, and what stays" tells_what_stays

results="$WORK/a place/results"

# rows FIELD=VALUE...: how many lines of the CSV file have these values.
rows() {
    awk -F, -v wanted="$*" '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; n = split(wanted, pair, " "); next }
        {
            for (i = 1; i <= n; i++) { split(pair[i], p, "="); if ($column[p[1]] != p[2]) next }
            found++
        }
        END { print found + 0 }' "$results/runs.csv"
}

leaves_lines() {
    [ "$(rows case=pair allocator=glibc repetition=1)" = 1 ] &&
        [ "$(rows case=pair allocator=cadastre repetition=1)" = 1 ] &&
        awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
            $column["repetition"] == 1 {
                split("time_ns ops_per_s cpu_ns operations peak_rss_kib idle_rss_kib rss_before_kib", name, " ")
                for (i in name) if (!($column[name[i]] > 0)) { print "no " name[i] ": " $0; bad = 1 }
            }
            END { exit bad }' "$results/runs.csv"
}
ok "each run is a line, with all that was measured" leaves_lines

leaves_out_what_cannot_run() {
    [ "$(rows case=show-1k allocator=cadastre repetition=1)" = 1 ] && [ "$(rows case=show-1k allocator=glibc)" = 0 ]
}
ok "the map is asked of those that have one" leaves_out_what_cannot_run

leaves_pages() {
    contains '| pair' "$results/small.md" && contains 'other one' "$results/small.md" &&
        contains 'show-1k' "$results/map.md" && contains '**all**' "$results/README.md" &&
        contains 'all at their defaults' "$results/README.md"
}
ok "each family has a page, and there is a summary" leaves_pages

leaves_pictures() {
    local name
    for name in small map summary; do
        [ "$(head -c 4 "$results/$name.png" | tail -c 3)" = PNG ] && contains '</svg>' "$results/$name.svg" || return 1
    done
}
ok "each family has its pictures" leaves_pictures

done_testing
