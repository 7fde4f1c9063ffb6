#!/bin/sh
# Runs a command in an arm64 root, inside a user and mount namespace that `unshare` made.
# Usage: enter.sh EMULATOR ROOT RUN SOURCE SITE CPUINFO COMMAND...
set -eu
emulator=$1 root=$2 run=$3 source=$4 site=$5 cpuinfo=$6
shift 6
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
# F opens the emulator now, so that it need not be inside the root
printf '%s' ":aarch64:M::$magic:$mask:$emulator:F" >/proc/sys/fs/binfmt_misc/register
for folder in proc dev sys; do mount --rbind "/$folder" "$root/$folder"; done
# without it an emulated program reads the processor of this machine
mount --bind "$cpuinfo" "$root/proc/cpuinfo"
mount --bind "$run" "$root/run/edgead"
mount --bind "$source" "$root/src"
mount --bind "$site" "$root/site"
export HOME=/root LC_ALL=C.UTF-8 TMPDIR=/tmp PYTHONPATH=/src:/site PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec chroot "$root" /usr/bin/env -C /run/edgead "$@"
