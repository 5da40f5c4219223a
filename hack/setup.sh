#!/bin/bash
# Makes this machine ready for `make demo`, `make test`, `make bench`: Debian packages, the BPF file system, .venv.
# Idempotent: what is there already is left alone, and a second run takes about a second.
# Used by the Makefile (hence by CI) and by the Vagrantfile.  `hack/setup.sh cluster` adds what a real Kubernetes cluster
# needs (tests/cluster), about 50 MB more.
set -euo pipefail
cd "$(dirname "$0")/.."

APT_PACKAGES=(
    python3 python3-venv python3-bpfcc python3-seccomp  # the agent: BCC comes from Debian only
    bpftool curl iproute2 procps util-linux             # demo and tests: namespaces, clients, a second opinion
    gcc libc6-dev                                       # tests: struct layouts as the C compiler sees them
    make nginx-light wrk                                # bench and demo: load
)
command -v go >/dev/null || APT_PACKAGES+=(golang-go)   # tests: an independent HTTP client and server
CLUSTER_PACKAGES=(
    etcd-server containerd runc containernetworking-plugins  # a node's programs that do not come as Go modules
    nftables conntrack iptables                              # kube-proxy and the CNI plugins call these
    mmdebstrap buildah                                       # images: a Debian base, and the agent's from its Dockerfile
    openssl                                                  # certificates of the cluster
)
WITH=${1:-}

say() { echo "set-up: $*"; }
refuse() { echo "set-up: $*" >&2; exit 1; }

case $WITH in
    "") ;;
    cluster) APT_PACKAGES+=("${CLUSTER_PACKAGES[@]}") ;;
    *) refuse "usage: hack/setup.sh [cluster]" ;;
esac
[ "$(id -u)" = 0 ] || refuse "needs root: it installs packages, mounts bpffs and later loads BPF programs. Run it as: sudo make demo"
command -v apt-get >/dev/null || refuse "needs Debian 12 or newer (no apt-get here). Elsewhere: 'vagrant up' gives a Debian machine that works."

install_packages() {
    local installed missing
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${APT_PACKAGES[@]}" 2>/dev/null | sed -n 's/^installed //p' || true)
    missing=$(comm -23 <(printf '%s\n' "${APT_PACKAGES[@]}" | sort) <(sort -u <<<"$installed"))
    [ -n "$missing" ] || return 0
    say "installing Debian packages:" $missing
    local policy=/usr/sbin/policy-rc.d mine=
    if [ ! -e $policy ]; then  # packages must not start services here: nginx would take port 80
        mine=1
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    trap '[ -z "'$mine'" ] || rm -f '$policy EXIT
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || refuse "apt-get update failed (see above): check the network and /etc/apt/sources.list"
    apt-get install -qq -y --no-install-recommends $missing >/dev/null || refuse "apt-get install failed (see above)"
    if grep -qx nginx-light <<<"$missing" && [ -d /run/systemd/system ]; then systemctl disable --quiet nginx; fi
    [ -z "$mine" ] || rm -f $policy
    trap - EXIT
}

mount_bpffs() {
    [ "$(stat -fc %T /sys/fs/bpf 2>/dev/null)" = bpf_fs ] && return 0
    say "mounting the BPF file system at /sys/fs/bpf (programs and counters live there)"
    mount -t bpf bpf /sys/fs/bpf || refuse "cannot mount bpffs at /sys/fs/bpf: is this a container without CAP_SYS_ADMIN?"
}

check_cgroup2() {
    grep -q ' - cgroup2 ' /proc/self/mountinfo || refuse "no cgroup2 is mounted, and the redirection attaches to cgroups. Try: mount -t cgroup2 none /sys/fs/cgroup"
}

# Debian 12's own Go is 1.19.  From 1.21 on, go fetches the version that a module asks for from the module proxy.
check_go() {
    local minor
    minor=$(go env GOVERSION 2>/dev/null | sed -nE 's/^go1\.([0-9]+).*/\1/p')
    [ "${minor:-0}" -ge 21 ] || refuse "Kubernetes needs Go 1.21 or newer to build, here is '$(go version 2>&1)'.
        On Debian 12: add bookworm-backports to /etc/apt/sources.list, then: apt-get install -t bookworm-backports golang-go"
}

make_venv() {
    local stamp=.venv/.set-up wanted
    wanted="$(cat requirements-dev.lock pyproject.toml hack/setup.sh | sha256sum) $(/usr/bin/python3 -V) $PWD"
    [ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || return 0
    if ! .venv/bin/python -c 'import sys' 2>/dev/null; then
        say "making .venv (from /usr/bin/python3, so that it sees python3-bpfcc)"
        /usr/bin/python3 -m venv --system-site-packages .venv
    fi
    say "installing Python packages into .venv, each checked against its hash"
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock ||
        refuse "pip could not install requirements-dev.lock (see above): check the network"
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . ||
        refuse "pip could not install this project into .venv (see above)"
    .venv/bin/python -c 'import bcc; bcc.BPF' 2>/dev/null ||
        refuse "the 'bcc' that .venv sees is not Debian's python3-bpfcc: run '.venv/bin/pip uninstall bcc' and 'apt-get install --reinstall python3-bpfcc'"
    echo "$wanted" >$stamp
}

exec 9>/tmp/nodeagent-setup.lock
flock -w 600 9 || refuse "another set-up has been running for ten minutes (it holds /tmp/nodeagent-setup.lock)"
install_packages
mount_bpffs
check_cgroup2
[ "$WITH" != cluster ] || check_go
make_venv
say "ready"
