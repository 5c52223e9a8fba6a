#!/usr/bin/env bash
# expected: build/libcadastre.a lacks cadastre_free
# A symbol that is promised and not there.
echo cadastre_free >>scripts/exports
