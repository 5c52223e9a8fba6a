#!/usr/bin/env bash
# nginx, two workers as the user that they drop root for: files, gzip and a proxy to itself under wrk, which
# compares every body; uploads; a reload, after which new workers serve.
set -u
source "$(dirname "$0")/lib.sh"
begin nginx nginx-light:nginx wrk:wrk python3:/usr/bin/python3
live 64

configure() {
    local user=
    ((EUID)) || user="user nobody nogroup;"
    mkdir -p "$WORK"/{root,temporary}
    cp "$TMP"/files/* "$WORK/root"
    ((EUID)) || chown -R nobody "$WORK"/{root,temporary}
    cat >"$WORK/nginx.conf" <<END
$user
daemon off;
pid $WORK/nginx.pid;
error_log $LOG/error.log info;
worker_processes 2;
thread_pool default threads=2;
events { worker_connections 512; }
http {
    access_log $LOG/access.log combined buffer=16k;
    root $WORK/root;
    client_body_temp_path $WORK/temporary/body;
    proxy_temp_path $WORK/temporary/proxy;
    fastcgi_temp_path $WORK/temporary/fastcgi;
    uwsgi_temp_path $WORK/temporary/uwsgi;
    scgi_temp_path $WORK/temporary/scgi;
    client_max_body_size 8m;
    upstream itself { server unix:$WORK/socket; keepalive 8; }
    server {
        listen 127.0.0.1:$PORT;
        location / { aio threads; }
        location /gzip/ { alias $WORK/root/; gzip on; gzip_types *; gzip_comp_level 3; }
        location /proxy/ {
            proxy_pass http://itself/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
        location /upload/ { alias $WORK/root/; dav_methods PUT DELETE; }
    }
    server {
        listen unix:$WORK/socket;
    }
}
END
}

# The kernel names a free port. Nothing holds it until nginx does, so an unlucky loser tries again.
serve() {
    local try
    for try in 1 2 3; do
        PORT=$("$PYTHON" "$HERE/nginx.py" port)
        configure
        start server nginx -p "$WORK" -c "$WORK/nginx.conf" -e "$LOG/start.log"
        up answers && return
        echo "that was try $try, with port $PORT"
        gone "$SERVER" || stop "$SERVER"
    done
    return 1
}

answers() {
    [[ $(processes "$WORK" nginx | wc -l) == 3 ]] &&
        limited "$PYTHON" "$HERE/nginx.py" get "127.0.0.1:$PORT" small
}

# load PATH FILE: two threads and 32 connections fetch one path; every body has to be FILE.
load() {
    limited wrk -t 2 -c 32 -d 2s -s "$HERE/nginx.lua" "http://127.0.0.1:$PORT$1" -- "$TMP/files/$2" \
        >"$LOG/wrk" 2>&1
    cat "$LOG/wrk"
    [[ $(grep '^bodies' "$LOG/wrk") =~ ^'bodies: '([1-9][0-9]*)' right, 0 wrong'$ ]] || return 1
    BODIES=$((BODIES + BASH_REMATCH[1]))
    ! grep -q 'Socket errors' "$LOG/wrk"
}

exchange() {
    limited "$PYTHON" "$HERE/nginx.py" exchange "127.0.0.1:$PORT" "$TMP/files" >"$WORK/exchanged"
}

reload() {
    local before worker
    before=$(workers)
    kill -HUP "$SERVER"
    for worker in $before; do
        await 20 gone "$worker" || { echo "worker $worker is still there" && return 1; }
    done
    await 20 answers && [[ $(workers) != "$before" ]]
}

workers() {
    processes "$WORK" nginx | grep -vx "$SERVER"
}

owners() {
    workers | sed 's|^|/proc/|' | xargs stat -c %U | xargs
}

round() {
    local worker path
    BODIES=0
    check "it answers" serve || return
    ((EUID)) || check "its workers gave up root" is "$(owners)" "nobody nobody"
    check "the allocator of the master and both workers" allocator_in_use nginx 3
    for path in /small /large /gzip/large /proxy/small /proxy/large; do
        step "wrk $path"
        check "wrk $path" load "$path" "${path##*/}"
    done
    check "files, gzip, proxy and uploads" timed exchange
    step "reload"
    for worker in $(workers); do
        peak_of "$worker"
    done
    diag "wrk fetched $BODIES bodies on $ROUND"
    check "a reload brings new workers" reload
    check "their allocator" allocator_in_use nginx 3
    check "wrk after the reload" load /proxy/large large
    check "it stops" stop "$SERVER"
    check "no error in its log" not grep -E '\[(error|crit|alert|emerg)\]' "$LOG/error.log"
}

mkdir "$TMP/files"
seq 200 >"$TMP/files/small"
seq $((LIVE * 500)) >"$TMP/files/large"
both round
same "every exchange" exchanged
finish
