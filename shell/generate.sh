#!/usr/bin/env bash
# Make a data set with your own model: personas to kept questions.
#   bash shell/generate.sh MODEL N [FILE]
# MODEL  a model as `pmem -m` takes it, e.g. openai:gpt-5 (OPENAI_API_KEY; OPENAI_BASE_URL for a server of your own)
# N      number of personas: the first N lines of FILE
# FILE   lines that describe people, e.g. PersonaHub's persona.jsonl (default: some lines that come with pmem)
# YES=1 skips the question; OUT names the folder (default ./generated); JOBS the calls in flight (default 16);
# IMPLICITNESS the votes on whether a conversation keeps its preference between the lines (default 1).
# Run again after a crash or with the same arguments: no finished call is made twice.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -lt 2 ] || ! [[ $2 =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
model=$1 n=$2 lines=${3:-$here/pmem/demo/lines.jsonl}
out=${OUT:-generated} jobs=${JOBS:-16} implicitness=${IMPLICITNESS:-1}
pmem=$(command -v pmem || echo "$here/.venv/bin/pmem")
[ -x "$pmem" ] || { echo "pmem is not installed: run bash shell/quickstart.sh --no-local first" >&2; exit 1; }
found=$(grep -c . "$lines")
[ "$found" -ge "$n" ] || { echo "$lines holds $found lines, $n are needed: name a FILE with more" >&2; exit 1; }

# Per persona, at the default settings: a profile, 5 kinds of preferences, updates, one check; then of the 16
# candidates with their 2 updates all at most become conversations, plus 2 forget requests; a question for each
# preference or chain and 2 secrets, in 2 calls each; 25 votes on a question. All but the forget requests are voted on.
conversations=20 questions=18 votes=$((18 * implicitness))
calls=$((n * (8 + conversations + votes + 2 * questions + 25 * questions)))
echo "$model, $n personas: at most about $calls calls ($((n * 8)) for personas, $((n * conversations)) conversations"
echo "with $((n * votes)) votes, $((n * 2 * questions)) for questions, $((n * 25 * questions)) votes), before retries; answers are cached. Output: $out/"
if [ -z "${YES-}" ]; then
  read -r -p "Go on? [y/N] " answer
  [[ $answer == [yY]* ]] || exit 1
fi

mkdir -p "$out"
options=(-m "$model" -j "$jobs")
"$pmem" personas "$lines" --limit "$n" "${options[@]}" --rejects "$out/rejected-personas.jsonl" \
  --dropped "$out/dropped-preferences.jsonl" -o "$out/personas.jsonl" || [ $? = 3 ]
"$pmem" converse "$out/personas.jsonl" "${options[@]}" --implicitness "$implicitness" --rejects "$out/rejected-conversations.jsonl" \
  -o "$out/conversations.jsonl" || [ $? = 3 ]
"$pmem" assemble "$out/conversations.jsonl" --window 32k --rejects "$out/rejected-histories.jsonl" \
  -o "$out/histories.jsonl" || [ $? = 3 ]
"$pmem" qa "$out/histories.jsonl" "${options[@]}" --rejects "$out/rejected-questions.jsonl" \
  -o "$out/questions.jsonl" || [ $? = 3 ]
"$pmem" judge "$out/questions.jsonl" "${options[@]}" --rejects "$out/rejected-votes.jsonl" \
  -o "$out/judged.jsonl" || [ $? = 3 ]
"$pmem" filter "$out/judged.jsonl" --explain --dropped "$out/dropped-questions.jsonl" -o "$out/kept.jsonl"
echo
echo "$(grep -c . "$out/kept.jsonl" || true) questions in $out/kept.jsonl, histories in $out/histories.jsonl. Now measure a model:"
echo "  pmem eval $out/kept.jsonl --histories $out/histories.jsonl -m $model -o $out/results.jsonl"
echo "  pmem eval --summary $out/results.jsonl"
