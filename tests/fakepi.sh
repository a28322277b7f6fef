#!/bin/sh
# The first process of a fake Pi, started by fakepi.py in user, mount and PID namespaces of its own.
# fakepi.sh FOLDER ROOTFS EMULATOR: FOLDER has `root` (empty), `run`, `sys` and `cpuinfo`; EMULATOR is empty on an Arm machine.
# Tells in one line on stdout how far it came; ends, and everything with it, when stdin does.
folder=$1 rootfs=$2 emulator=$3
root=$folder/root

cannot() { echo "cannot $1"; exit 1; }

if [ "$4" != mapped ]; then
    echo unshared
    read -r _ || exit 1 # the ids are mapped from outside meanwhile; an exec after that gives root's capabilities here
    exec sh "$0" "$folder" "$rootfs" "$emulator" mapped
fi

if [ -n "$emulator" ]; then
    mount -t binfmt_misc none "$root" || cannot "mount a binfmt_misc of its own (Linux 6.7 or later)"
    # F: the emulator is opened now, from outside the Pi's file system; P: programs get to know how they were called
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    printf '%s' ":pi:M::$magic:$mask:$emulator:PF" >"$root/register" || cannot "register the emulator"
fi
mount --rbind "$rootfs" "$root" || cannot "mount the root file system"
mount -t proc none "$root/proc" || cannot "mount a proc of its own"
mount --bind "$folder/cpuinfo" "$root/proc/cpuinfo" || cannot "replace the cpuinfo"
mount --bind "$folder/sys" "$root/sys" || cannot "replace the sys"
for place in dev run tmp home; do
    mount -t tmpfs -o mode=755 none "$root/$place" || cannot "mount a tmpfs"
done
for device in null zero full random urandom; do
    : >"$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device" || cannot "bring /dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir -m 1777 "$root/dev/shm"
chmod 1777 "$root/tmp"
mkdir "$root/home/pi" "$root/run/sshd" && chown 1000:1000 "$root/home/pi" || cannot "make a home"
cp "$folder"/run/* "$root/run/sshd/"

exec 3<&0
chroot "$root" /usr/sbin/sshd -D -e -f /run/sshd/sshd_config &
sshd=$!
echo started
(read -r _ <&3; kill -KILL "$sshd") &
wait "$sshd" # collects what the Pi's processes leave behind as well
