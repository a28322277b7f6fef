#!/usr/bin/env bash
# setup.sh PYTHON EXTRA: makes .venv with melt and an extra of it ("all" for people, "dev" for the tests), and a C compiler where
# the machine has none. Says in one sentence what is missing when it cannot.
set -euo pipefail
python=$1 extra=$2

fail() { echo "setup: $*" >&2; exit 1; }

command -v "$python" >/dev/null || fail "there is no '$python': install Python 3.11 or later, or call make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "'$python' is $("$python" -V 2>&1): melt needs 3.11 or later; call make PYTHON=/path/to/python3.11"

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "setup: making .venv"
    if ! "$python" -m venv .venv 2>/dev/null; then
        # Debian and Ubuntu ship venv apart
        package=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
        as_root=
        [ "$(id -u)" = 0 ] || as_root="sudo -n"
        if command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
            $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends "$package" >/dev/null
        fi
        "$python" -m venv .venv || fail "the package $package is missing: apt install $package"
    fi
fi

extras=$extra
command -v cc >/dev/null || command -v gcc >/dev/null || extras="$extras,zig"
lock=()
[ "${CI:-}" = true ] && lock=(-c requirements.lock)
echo "setup: installing melt[$extras] into .venv (once; a minute or two)"
.venv/bin/python -m pip install -q --disable-pip-version-check "${lock[@]}" -e ".[$extras]" ||
    fail "pip could not install melt[$extras]: look at what it says above"

# The Python side of llama.cpp alone: melt compiles llama.cpp once, for this and for its runner. The archive comes through
# pip's cache, where melt finds it again for its source; the package does not go there, as other projects want a whole one.
told() { sed -n "s/^$1 = \"\(.*\)\"$/\1/p" melt/native/source.py; }
version=$(told VERSION)
installed=$(.venv/bin/python -c 'import importlib.metadata as m; print(m.version("llama-cpp-python"))' 2>/dev/null || true)
if [ "$installed" != "$version" ]; then
    echo "setup: installing llama-cpp-python $version without a llama.cpp of its own (once; 77 MB to fetch)"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    echo "llama-cpp-python==$version --hash=sha256:$(told SHA256)" >"$folder/wanted.txt"
    pip=(.venv/bin/python -m pip --disable-pip-version-check -q)
    { "${pip[@]}" download --no-deps --no-binary=llama-cpp-python --progress-bar off -d "$folder" -r "$folder/wanted.txt" &&
        "${pip[@]}" install --no-cache-dir --no-deps --config-settings=wheel.cmake=false "$folder"/*.tar.gz; } ||
        fail "pip could not install llama-cpp-python $version: look at what it says above"
fi
touch ".venv/.ready-$extra"
[ "$extra" != dev ] || touch .venv/.ready-all
