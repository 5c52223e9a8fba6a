#!/usr/bin/env bash
# nginx, two workers, under wrk's 64 connections for three seconds. An operation is a request: for a small file, a
# file through gzip (whose state is a LARGE block), and a file through a proxy to itself. Memory is both workers'.
set -u
source "$(dirname "$0")/lib.sh"
PACKAGES=(nginx-light:nginx wrk:wrk perl-base:perl)
CASES=(file gzip proxy)

configure() {
    local user=
    ((EUID)) || user="user root;" # So that the workers can be looked at as they are.
    mkdir -p "$WORK"/{root,temporary}
    seq 2000 >"$WORK/root/text"
    cat >"$WORK/nginx.conf" <<END
$user
daemon off;
pid $WORK/nginx.pid;
worker_processes 2;
events { worker_connections 512; }
http {
    access_log off;
    root $WORK/root;
    client_body_temp_path $WORK/temporary/body;
    proxy_temp_path $WORK/temporary/proxy;
    fastcgi_temp_path $WORK/temporary/fastcgi;
    uwsgi_temp_path $WORK/temporary/uwsgi;
    scgi_temp_path $WORK/temporary/scgi;
    keepalive_requests 1000;
    upstream itself { server unix:$WORK/socket; keepalive 16; }
    server {
        listen 127.0.0.1:$PORT;
        location /file/ { alias $WORK/root/; }
        location /gzip/ { alias $WORK/root/; gzip on; gzip_types *; gzip_comp_level 1; }
        location /proxy/ {
            proxy_pass http://itself/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
    server { listen unix:$WORK/socket; }
}
END
}

# Nothing holds the port that the kernel names until nginx does, so an unlucky loser tries again.
start() {
    local try
    for try in 1 2 3; do
        PORT=$(perl -MIO::Socket::INET \
            -e 'print IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1)->sockport') ||
            die "$CASE: perl gave no free port"
        configure
        serve nginx -p "$WORK" -c "$WORK/nginx.conf" -e stderr
        if await 10 settled; then
            return
        fi
    done
    failed "$TMP/server.log" "nginx did not start in $try tries"
}

workers() {
    processes "$WORK" nginx | grep -vx "$SERVER"
}

settled() {
    gone "$SERVER" || [[ $(workers | wc -l) == 2 ]]
}

measure() {
    local pids requests seconds
    live 64
    start
    until_up [ -S "$WORK/socket" ]
    mapfile -t pids < <(workers)
    verify "${pids[@]}"
    before "${pids[@]}"
    load "$TMP/report" wrk -t 2 -c 64 -d 3s -H 'Accept-Encoding: gzip' "http://127.0.0.1:$PORT/$CASE/text"
    after "${pids[@]}"
    ! grep -E 'Socket errors|Non-2xx' "$TMP/report" >&2 || die "$CASE: wrk saw errors"
    read -r requests seconds < <(sed -nE 's/^ *([0-9]+) requests in ([0-9.]+)s,.*/\1 \2/p' "$TMP/report")
    seconds_for "$requests" "$seconds"
    result
}

main "$@"
