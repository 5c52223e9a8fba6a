#!/usr/bin/env bash
# expected: scripts/calls: os_give, which os_take is to call, is no function
echo 'os_take  os_give' >>scripts/calls
