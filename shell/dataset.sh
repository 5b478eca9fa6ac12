#!/usr/bin/env bash
# Make a data set with your own model: from lines that describe people to questions in splits.
#   bash shell/dataset.sh MODEL N [FILE]
# MODEL  a model as `pmem -m` takes it, e.g. openai:gpt-5 (OPENAI_API_KEY; OPENAI_BASE_URL for a server of your own)
# N      number of personas: the first N lines of FILE
# FILE   lines that describe people, e.g. PersonaHub's persona.jsonl (default: some lines that come with pmem)
# Environment (what isn't here can be set in pmem.toml or as PMEM_<COMMAND>_<OPTION>):
#   OUT=dataset       the folder for all files      YES=1       don't ask before the first call
#   JUDGE=MODEL       another model that votes      VOTES=3     votes for each check
#   BASE_URL, JUDGE_BASE_URL    their servers       JOBS=16     calls in flight
#   WINDOWS="32k 128k"          history sizes (32k without FILLER)         SEED=0      of every draw
#   FILLER=FILE       filler records for assemble   PREFERENCES=stereotypical=4,...   candidates for a persona
#   IMPLICITNESS=1    votes on whether a conversation keeps its preference between the lines      IMAGES=DIR  photos
#   QUOTAS=FILE       questions wanted of each kind and case (docs/data.md); without it, one for each preference
#   ATTEMPTS=4        rounds of questions, each about what still lacks one
#   SIZES=bench=0.2,train=0.72,val=0.08             numbers of questions, or shares, of the splits
# Run again after a crash, or with more ATTEMPTS or other QUOTAS: what is done stays, no finished call is made twice.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -lt 2 ] || ! [[ $2 =~ ^[1-9][0-9]*$ && ${ATTEMPTS:-4} =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,19s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
model=$1 n=$2 lines=${3:-$here/pmem/demo/lines.jsonl}
out=${OUT:-dataset} jobs=${JOBS:-16} judge=${JUDGE:-$model} votes=${VOTES:-3} implicitness=${IMPLICITNESS:-1} attempts=${ATTEMPTS:-4} seed=${SEED:-0}
windows=${WINDOWS:-32k${FILLER:+ 128k}} sizes=${SIZES:-bench=0.2,train=0.72,val=0.08}
pmem=$(command -v pmem || echo "$here/.venv/bin/pmem")
[ -x "$pmem" ] || { echo "pmem is not installed: run bash shell/quickstart.sh --no-local first" >&2; exit 1; }
found=$(grep -c . "$lines" || true)
[ "$found" -ge "$n" ] || { echo "$lines holds $found lines, $n are needed: name a FILE with more" >&2; exit 1; }

# What was made with other settings is not to be mixed with what is to come.
settings="model $model, judge $judge, votes $votes, $n personas of $lines, windows $windows, filler ${FILLER:--}"
settings+=", preferences ${PREFERENCES:--}, implicitness $implicitness, images ${IMAGES:--}, seed $seed"
if [ -e "$out/settings" ] && [ "$(cat "$out/settings")" != "$settings" ]; then
  printf '%s holds what was made with other settings:\n  %s\nnow:\n  %s\nName another folder (OUT=...).\n' \
    "$out" "$(cat "$out/settings")" "$settings" >&2
  exit 1
fi

if [ ! -e "$out/settings" ] && [ -z "${YES-}" ]; then
  # Per persona, at the default settings: a profile, 5 kinds of preferences, updates, one check; then of the 16
  # candidates with their 2 updates all at most become conversations, plus 2 forget requests; a question for each
  # preference or chain and 2 secrets, in 2 calls each; votes on each: 4 blind ones, and on 4 checks and 3 options.
  round=$((n * 18 * (2 + 4 + 7 * votes))) read=$((n * 18 * implicitness))
  echo "$model, $n personas: at most about $((n * 28 + read + round)) calls before retries ($((n * 8)) for personas,"
  echo "$((n * 20)) for conversations and $read for votes on them, $round for questions and votes); each of up to $((attempts - 1)) further rounds asks again about"
  echo "what fell. Answers are cached. Output: $out/"
  read -r -p "Go on? [y/N] " answer
  [[ $answer == [yY]* ]] || exit 1
fi
mkdir -p "$out"
printf '%s\n' "$settings" >"$out/settings"

# step NAME ARGUMENT...: `pmem ARGUMENT...` to NAME.jsonl, with rejects beside it, unless that is there already. pmem
# renames FILE.part to FILE when all is done; a .part beside a FILE is a run that was killed between two renames.
step() {
  local file=$out/$1.jsonl rejected=$out/rejected-$1.jsonl
  shift
  if [ ! -e "$file" ] || [ -e "$rejected.part" ]; then
    "$pmem" "$@" -o "$file" --rejects "$rejected" || [ $? = 3 ]
  fi
}

writer=(-m "$model" -j "$jobs" --seed "$seed" ${BASE_URL:+--base-url "$BASE_URL"})
voter=(-m "$judge" -j "$jobs" --seed "$seed" --votes "$votes")
server=${JUDGE_BASE_URL:-$([ "$judge" != "$model" ] || echo "${BASE_URL-}")}
voter+=(${server:+--base-url "$server"})

step personas personas "$lines" --limit "$n" "${writer[@]}" --dropped "$out/dropped-preferences.jsonl" \
  ${PREFERENCES:+--preferences "$PREFERENCES"}
step conversations converse "$out/personas.jsonl" "${writer[@]}" ${IMAGES:+--images "$IMAGES"} \
  --implicitness "$implicitness" --judge-model "$judge" ${server:+--judge-base-url "$server"}
# shellcheck disable=SC2086,SC2046 # windows are words, each an option
step histories assemble "$out/conversations.jsonl" --seed "$seed" $(printf -- '--window %s ' $windows) \
  ${FILLER:+--filler "$FILLER"}

judged=()
for ((round = 0; round < attempts; round++)); do
  again=() asked=("$out/histories.jsonl")
  if [ $round -gt 0 ]; then # what fell, and what could not be asked the last time
    again=(--attempt "$round" --only "$out/owed-$((round - 1)).jsonl")
    asked+=("$out/rejected-questions-$((round - 1)).jsonl")
  fi
  step "questions-$round" qa "${asked[@]}" "${writer[@]}" ${again[@]+"${again[@]}"}
  step "judged-$round" judge "$out/questions-$round.jsonl" "${voter[@]}"
  # a question that could not be judged counts as one that fell
  judged+=("$out/judged-$round.jsonl" "$out/rejected-judged-$round.jsonl")
  if [ ! -e "$out/questions-$((round + 1)).jsonl" ]; then
    "$pmem" filter "${judged[@]}" --owed "$out/owed-$round.jsonl" --dropped "$out/dropped-questions.jsonl" \
      ${QUOTAS:+--quota "$QUOTAS"} -o "$out/kept.jsonl"
  fi
  [ -s "$out/owed-$round.jsonl" ] || [ -s "$out/rejected-questions-$round.jsonl" ] || break
done
"$pmem" split "$out/kept.jsonl" --seed "$seed" --sizes "$sizes" --into "$out/splits" --dropped "$out/left-out.jsonl"
echo
echo "$(grep -c . "$out/kept.jsonl" || true) questions in $out/kept.jsonl, the splits in $out/splits/, histories in"
echo "$out/histories.jsonl. Now measure a model:"
echo "  pmem eval $out/splits/bench.jsonl --histories $out/histories.jsonl -m $model -o $out/results.jsonl"
echo "  pmem eval --summary $out/results.jsonl"
