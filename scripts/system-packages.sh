#!/usr/bin/env bash
# Installs the system packages that some tests need, where it may; says loudly what it may not and which tests that leaves out.
set -uo pipefail

# program that must be there : Debian's package : may it be installed unasked : what happens without it
# (a server's package would start that server on a person's machine, and compilers are large: only CI gets those unasked)
needs=(
    "qemu-aarch64-static:qemu-user-static:yes:the programs for another processor (aarch64) are NOT tested"
    "unshare:util-linux:yes:full and read-only work folders are NOT tested"
    "ssh-keygen:openssh-client:yes:everything over SSH is NOT tested"
    "sshd:openssh-server:ci:everything over SSH is NOT tested"
    "g++:g++:ci:zig compiles llama.cpp in its place, which takes twice the time, and the wheel is NOT tested"
    "aarch64-linux-gnu-g++:g++-aarch64-linux-gnu:ci:zig compiles llama.cpp for aarch64 in its place, which takes twice the time"
)
PATH=$PATH:/usr/sbin:/sbin

as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
missing=()
for need in "${needs[@]}"; do
    IFS=: read -r program package unasked what <<<"$need"
    command -v "$program" >/dev/null && continue
    [ "$unasked" = yes ] || [ "${CI:-}" = true ] && missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
    echo "test: installing ${missing[*]}"
    $as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        { $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; }
fi
for need in "${needs[@]}"; do
    IFS=: read -r program package _ what <<<"$need"
    command -v "$program" >/dev/null && continue
    echo "test: *** the package $package is missing: $what. apt install $package" >&2
done
exit 0
