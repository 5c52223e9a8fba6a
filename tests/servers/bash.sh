# shellcheck shell=bash
# bash.t's work: prints checksums of what it computes. usage: bash.sh MIB
# Bash frees and grows strings and hash tables all the time; every $(...) and pipe forks a shell that goes on
# in a copy of this heap.
set -u
keys=$(($1 * 300))

declare -A table=()
declare -a list=()
for ((i = 0; i < keys; i++)); do
    printf -v value '%*d' $((i % 200 + 1)) "$i"
    table[key$i]=$value
    list+=("${value//1/one}")
done
for ((i = 0; i < keys; i += 3)); do
    unset "table[key$i]" "list[$i]"
done
printf 'table: %d entries, list: %d entries\n' "${#table[@]}" "${#list[@]}"
printf '%s\n' "${!table[@]}" | sort | cksum
printf '%s\n' "${table[@]}" | sort | cksum
printf '%s\n' "${list[@]}" | cksum

text=
for ((i = 0; i < 2000; i++)); do
    text+=$i,
    [[ $text =~ ,([0-9]+),$ ]] && : "${BASH_REMATCH[1]}"
done
printf 'text: %d characters, %s\n' "${#text}" "$(cksum <<<"${text//,/;}")"

sum=0
for ((i = 0; i < 200; i++)); do
    part=$(printf '%s' "${table[key$((3 * i + 1))]// /}" | tr -d ' ')
    sum=$((sum + part))
done
printf 'forks: %d\n' "$sum"

count() {
    local depth=$1
    ((depth == 0)) && return
    local -a frame=("${list[@]:0:100}")
    count $((depth - 1))
    frames=$((frames + ${#frame[@]}))
}
frames=0
count 200
printf 'frames: %d\n' "$frames"
