#!/bin/bash
# Writes go.mod and go.sum anew for a Kubernetes version: tests/cluster/go/kube/tidy.sh v1.36.3
# k8s.io/kubernetes can be a dependency only if its "staging" modules are replaced by the published ones.
set -euo pipefail
cd "$(dirname "$0")"
version=${1:?usage: tidy.sh v1.MINOR.PATCH}
upstream=$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/^\s*"GoMod": "\(.*\)",$/\1/p')
{
    printf 'module nodeagent.dev/tests/kube\n\n'
    grep -E '^(go|godebug) ' "$upstream"
    printf '\nrequire k8s.io/kubernetes %s\n\n' "$version"
    sed -nE "s#^(replace)?\s*(k8s\.io/[a-z-]+) => \./staging/.*#replace \2 => \2 v0.${version#v1.}#p" "$upstream"
} >go.mod
rm -f go.sum
go mod tidy
