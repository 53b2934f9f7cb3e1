#!/bin/sh
# Make a virtual environment in folder $1 with a Python of 3.11 or newer.
# $PYTHON, where set, is the only Python tried.
set -eu
venv=$1

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
makes_venvs() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }
say() { printf '%s\n' "$*" >&2; }

found=
without_venv=
for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
    new_enough "$candidate" || continue
    if makes_venvs "$candidate"; then
        found=$candidate
        break
    fi
    without_venv=${without_venv:-$candidate}
done

if [ -z "$found" ] && [ -n "$without_venv" ]; then
    say "$without_venv has no venv module, so Headlamp's environment cannot be made."
    say "On Debian or Ubuntu: apt install python3-venv   Then run make install again."
    exit 1
fi
if [ -z "$found" ] && [ -n "${PYTHON:-}" ]; then
    say "PYTHON=$PYTHON is not a Python of 3.11 or newer."
    say "Name another, as in: make install PYTHON=python3.12"
    exit 1
fi
if [ -z "$found" ]; then
    say "Headlamp needs Python 3.11 or newer, and none was found as python3.14 to python3.11 or python3."
    say "Install one (Debian or Ubuntu: apt install python3 python3-venv; macOS: brew install python),"
    say "or name one, as in: make install PYTHON=/path/to/python3.12"
    exit 1
fi

# An environment left half made would pass for a whole one.
trap 'rm -rf "$venv"; exit 130' INT TERM HUP
say "Making $venv with $found ($("$found" -V 2>&1))"
if ! "$found" -m venv --clear "$venv"; then
    rm -rf "$venv"
    say "$found could not make $venv. On Debian or Ubuntu: apt install python3-venv"
    exit 1
fi
