#!/bin/sh
# Builds driver.sys and driver.pdb from the sources beside it, byte for byte the
# same from any folder, with clang and lld 14 of Debian 12.
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
out=${1:-$here}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/driver.c "$here"/classes.cpp "$here"/unwind.s "$work"
cd "$work"
flags='--target=x86_64-pc-windows-msvc -g -gcodeview -O1 -ffreestanding -fno-stack-protector
  -fasynchronous-unwind-tables -fdebug-compilation-dir=. -fcoverage-compilation-dir=. -mno-red-zone'
clang $flags -Wno-microsoft-fixed-enum -c driver.c -o driver.obj
clang $flags -fno-rtti -fno-exceptions -fstandalone-debug -c classes.cpp -o classes.obj
clang --target=x86_64-pc-windows-msvc -c unwind.s -o unwind.obj
lld-link /driver /subsystem:native /nodefaultlib /entry:DriverEntry /debug:full \
  /pdbaltpath:driver.pdb '/pdbsourcepath:c:\src' /base:0x140000000 /opt:noref /Brepro \
  /out:driver.sys /pdb:driver.pdb driver.obj classes.obj unwind.obj
cp driver.sys driver.pdb "$out"
