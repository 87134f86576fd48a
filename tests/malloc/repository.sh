#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes a git repository, packs and checks it, and clones it.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HOME="$work" GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=Alice GIT_AUTHOR_EMAIL=alice@example.org GIT_AUTHOR_DATE="1700000000 +0000"
export GIT_COMMITTER_NAME=Alice GIT_COMMITTER_EMAIL=alice@example.org
export GIT_COMMITTER_DATE="$GIT_AUTHOR_DATE"

git init -q -b trunk repository
cd repository
for number in 1 2 3 4 5; do
    seq "$number" 2000 > numbers
    seq "$number" > "file $number"
    git add .
    git commit -qm "commit $number"
done
git log --stat --format='%H %s'
git gc -q
git fsck --strict
git clone -q . ../clone
git -C ../clone rev-parse HEAD
git -C ../clone diff --shortstat HEAD~2
