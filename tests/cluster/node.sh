#!/bin/bash
# Turns a fresh set of namespaces (network, processes, mounts, host name, cgroups) into a machine of its own, and then
# becomes its process 1.  What happens here is seen inside only, and ends with the last process.
#     node.sh HOME NAME REAPER
set -euo pipefail
home=$1 name=$2 reaper=$3

mount --make-rshared /  # as systemd does: kubelet and containerd hand mounts on to containers
echo "$name" >/proc/sys/kernel/hostname
mount -t proc proc /proc

# The machine's mounts below PLACE would show through in /proc/mounts, and would keep alive what the machine unmounts.
forget() {
    findmnt -rno TARGET | grep -E "^$1(/|\$)" | tac | while read -r target; do umount -l "$target"; done || true
}

# A sysfs of this network namespace, with cgroups seen from this node's root and a BPF file system of the node's own.
hierarchies=$(findmnt -rn -t cgroup,cgroup2 -o TARGET,FSTYPE,FS-OPTIONS)
top=$(findmnt -no FSTYPE /sys/fs/cgroup)
forget /sys
mount -t sysfs sysfs /sys
[ "$top" = cgroup2 ] || mount -t tmpfs -o mode=755 cgroups /sys/fs/cgroup
while read -r target type options; do
    mkdir -p "$target"
    mount -t "$type" -o "$options" "$type" "$target"
done <<<"$hierarchies"
mount -t bpf bpf /sys/fs/bpf

# Kubelet, containerd and the agent write to fixed places.
for place in /run /var/lib /var/log; do
    forget $place
    mkdir -p "$home/root$place"
    mount --bind "$home/root$place" "$place"
done
mkdir -p /run/netns

# Kubelet sets these for the whole machine; here it sets copies.
for key in kernel/panic kernel/panic_on_oops vm/overcommit_memory vm/panic_on_oom kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    copy=$home/sysctl/${key##*/}
    mkdir -p "$home/sysctl"
    cat /proc/sys/$key >"$copy"
    mount --bind "$copy" /proc/sys/$key
done

touch "$home/ready"
exec "$reaper"
