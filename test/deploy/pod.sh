#!/bin/sh
# Runs a command in an image's file system as a pod does: as user 10001 without capabilities, the root read-only, volumes as Kubernetes
# makes them (an emptyDir is anybody's to write and not sticky), /dev/shm as container runtimes make it.
#
#     unshare -m --propagation private sh pod.sh ROOT DIRECTORY COMMAND...      DIRECTORY has config/ and keys/
set -eu
root=$1 directory=$2
shift 2
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777,size=64m shm "$root/dev/shm"
for volume in tmp cache shards; do mount -t tmpfs -o mode=0777 tmpfs "$root/$volume"; done
mount --bind "$directory/config" "$root/etc/tandem"
mount --bind "$directory/keys" "$root/keys"
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all "$@"
