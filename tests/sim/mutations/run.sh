#!/bin/sh
# Breaks the decision core in one place at a time and requires that the simulation notices. Works on a copy of the tree.
set -eu
cd "$(dirname "$0")/../../.."
tree=target/mutations/tree
mkdir -p "$tree"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$tree" 2>/dev/null ||
	git ls-files -z --cached --others --exclude-standard | xargs -0 tar cf - | tar xf - -C "$tree"
failed=0
for patch in tests/sim/mutations/${1:-*}.patch; do
	name=$(basename "$patch" .patch)
	git ls-files -z src/supervisor | xargs -0 tar cf - | tar xmf - -C "$tree"
	patch -s -p1 -d "$tree" <"$patch"
	log=target/mutations/$name.log
	# Dev profile: a mutant is built once and runs for seconds. Overflow and debug assertions count as found, too.
	if (cd "$tree" && CARGO_TARGET_DIR=../target SIM_SEEDS="${SIM_SEEDS:-600}" SIM_HOURS="${SIM_HOURS:-3}" \
		${CARGO:-cargo} test --locked --quiet --test sim -- every_promise slow_is dead_is shares) >"$log" 2>&1; then
		echo "$name: NOT NOTICED"
		failed=1
	elif grep -q '^sim: seed\|^broken after\|seed [0-9]*: \|shares: ' "$log"; then
		echo "$name: $(grep -m1 -o 'sim: seed .*\|moving, seed .*\|wedged, seed .*\|shares: .*' "$log" | cut -c1-200)"
	else
		echo "$name: not built or not run; see $log"
		failed=1
	fi
done
exit $failed
