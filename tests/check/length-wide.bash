#!/usr/bin/env bash
# expected: src/base.h:1: 206 characters
# A comment that no screen shows whole.
sed -i "1i /* $(printf 'x%.0s' {1..200}) */" src/base.h
