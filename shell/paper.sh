#!/usr/bin/env bash
# The PersonaMem-v2 paper's experiment as one script: measure models, train one, measure it again (docs/paper.md).
#   bash shell/paper.sh [--plan] WORK [STEP]...
#   DATA=PersonaMem-v2 JUDGE=openai:gpt-5-mini bash shell/paper.sh --plan work
# WORK    the folder for all that is made; tables and figures come to WORK/paper. One run at a time in it
# STEP    some of: data base sft grpo memtrain trained memory errors paper (default: all). They run in this order
# --plan  print the commands that are left, with what their calls would take where pmem can tell; make nothing
# Run again after whatever ended it: what is done stays, no finished call is made twice, training goes on from its last
# checkpoint. Settings are environment variables, or lines NAME="VALUE" in WORK/settings.sh, which go before those.
# Anything else: pmem.toml, PMEM_<COMMAND>_<OPTION>.
set -euo pipefail

settings() {
  : "${DATA=}"           # PersonaMem-v2's folder (benchmark/text/*.csv), or one that shell/dataset.sh made
  : "${SIZES=}"          # bench=N,train=N,val=N: splits by `pmem split` in place of those that the data have
  # models to measure, as of pmem's -m: the paper's six
  : "${MODELS=openai:gpt-5-chat-latest openai:gpt-5-mini openai:gpt-5-nano
    openai:gpt-4.1 openai:gpt-4.1-mini openai:o4-mini}"
  : "${WINDOWS=32k 128k}" # sizes of histories in which MODELS are asked
  : "${MODES=mcq open}"  # multiple choice, open-ended
  : "${JUDGE=}"          # model that judges open-ended replies, in evaluation and in training
  : "${VOTES=3}"         # of the judge on each reply
  : "${ERRORS=600}"      # results of the first of MODELS whose mistakes the judge sorts by kind (0: none)
  : "${BASE=Qwen/Qwen3-4B-Instruct-2507}" # model to train: a folder or a name, without its kind
  : "${ENGINE=local}"    # of training: local, or verl (docs/verl.md)
  : "${PRESET=}"         # of verl: paper-4b-8xh100, cpu
  : "${SERVE=$([ "$ENGINE" = verl ] && echo vllm || echo local)}" # kind of the base and the trained models when asked
  : "${OWN_WINDOW=32k}"  # size of histories in which these are trained and asked
  : "${FORM=think}"      # of their replies: think, steps, line
  : "${MAX_TOKENS=2048}" # of their replies
  : "${TEACHER=}"        # model whose right replies and memories SFT learns (none: right answers as the data tell them)
  : "${SFT_STEPS=300}"
  : "${SFT_BATCH=64}"
  : "${STEPS=500}"       # of GRPO and of memtrain: the same for each mix, so that all see the same questions
  : "${BATCH=32}"        # questions in a step of these
  : "${GROUP=8}"         # replies to each
  : "${SAVE_EVERY=50}"   # steps between checkpoints
  : "${VAL_EVERY=25}"    # steps between measurements on val (none: without; 0: at the end)
  : "${CHUNK_TOKENS=5000}"
  : "${MEMORY_TOKENS=2048}"
  : "${SEED=0}"          # of every draw
  : "${JOBS=16}"         # calls in flight
  : "${REJECTS=0}"       # records of a command that may fail; with more of them the script stops
  : "${BASE_URL=}"       # server of MODELS and TEACHER
  : "${JUDGE_BASE_URL=}" # server of JUDGE
  : "${CACHE=$work/cache.sqlite}" # of replies; not on NFS
  : "${MODEL_OPTIONS=}"  # more options, as words: of evaluating MODELS and TEACHER, e.g. --rpm 500 --max-cost 200
  : "${OWN_OPTIONS=}"    # of evaluating the base and the trained models, e.g. --context-length 45000
  : "${TRAIN_OPTIONS=}"  # of sft, grpo and memtrain, e.g. --checkpointing
}
KEPT="DATA SIZES JUDGE VOTES BASE ENGINE PRESET SERVE OWN_WINDOW FORM MAX_TOKENS TEACHER SFT_STEPS SFT_BATCH STEPS BATCH
  GROUP VAL_EVERY CHUNK_TOKENS MEMORY_TOKENS SEED TRAIN_OPTIONS" # what is made with others of these isn't to be mixed
ALL="data base sft grpo memtrain trained memory errors paper"
MIXED=mcq=0.8,open=0.2 # the paper's

# ---- how a command is run --------------------------------------------------------------------------------------------

step='' command=()
ended() { # STATUS
  [ "$1" != 0 ] && [ -n "$step" ] || return 0
  printf '\npaper.sh: step %s stopped with status %s at\n  %s\n' "$step" "$1" "$(quoted)"
  printf 'What is done stays. With the cause out of the way the same command goes on from here.\n'
} >&2
trap 'ended $?' EXIT

quoted() { # the command as it could be typed
  printf '%q' "${command[0]-}"
  printf ' %q' "${command[@]:1}"
}

say() { # what comes to be
  printf '\n== %s: %s\n' "$step" "$1" >&2
}

# lacking FILE: whether COMMAND is to be run for FILE; under --plan it is printed instead
lacking() {
  [ ! -e "$1" ] || return 1
  [ -n "$plan" ] || return 0
  printf '\n# %s: %s\n%s\n' "$step" "$1" "$(quoted)"
  return 1
}

# made FILE.jsonl COMMAND [ARGUMENT]...: what `pmem COMMAND` writes in FILE.jsonl, unless that is done, and what failed
# in FILE.rejects.jsonl. pmem renames each .part when all is in it: one beside a FILE was left between two renames.
made() {
  local file=$1 rejected=${1%.jsonl}.rejects.jsonl status=0
  shift
  command=(pmem "$@" --rejects "$rejected" -o "$file")
  if [ -z "$plan" ] && { [ -e "$rejected.part" ] || [ "$(failed "$rejected")" -gt "$REJECTS" ]; }; then
    rm -f "$file"
  fi
  if ! lacking "$file"; then
    [ -z "$plan" ] || [ -e "$file" ] || planned "$@"
    return 0
  fi
  say "$file"
  "$pmem" "${command[@]:1}" || status=$?
  if [ "$(failed "$rejected")" -gt "$REJECTS" ]; then
    echo "$(failed "$rejected") records failed: see $rejected. Run again to try these again; REJECTS=N lets N be." >&2
    rm -f "$file"
    return 3
  fi
  [ "$status" = 3 ] || return "$status"
}

failed() { # FILE: records in it
  { cat "$1" 2>/dev/null || true; } | wc -l
}

# planned COMMAND [ARGUMENT]...: what its calls would take, once all that it reads is there
planned() {
  local word
  [[ $1 = eval || $1 = memdump ]] || return 0
  for word in "$@"; do
    word=${word#*:}
    if [[ $word = "$work"/* && $word != "$CACHE" && ! -e $word ]]; then
      echo "# its calls can be counted once $word is there"
      return 0
    fi
  done
  HF_HUB_OFFLINE=1 "$pmem" "$@" --plan -q || true # a base that isn't on this machine has no plan yet
}

# trained NAME COMMAND [ARGUMENT]...: the model WORK/models/NAME and the metrics of its training
trained() {
  local folder=$work/models/$1 metrics=$work/metrics/$1.jsonl
  shift
  command=(pmem "$@" -o "$folder")
  if lacking "$folder"; then
    say "$folder"
    "$pmem" "${command[@]:1}" >"$metrics.part"
  fi
  # the folder is there only after the last metric was written
  [ ! -e "$folder" ] || [ ! -e "$metrics.part" ] || [ -n "$plan" ] || mv "$metrics.part" "$metrics"
}

# kept FILE COMMAND [ARGUMENT]...: what another command prints, in FILE
kept() {
  local file=$1
  shift
  command=("$@")
  if lacking "$file"; then
    say "$file"
    LC_ALL=C "$@" >"$file.part"
    mv "$file.part" "$file"
  fi
}

# ---- what the commands have in common --------------------------------------------------------------------------------

name_of() { # MODEL: what its files are called
  local name=${1#*:}
  echo "${name//[^A-Za-z0-9._-]/-}"
}

own() { # NAME: the base or a trained model, as it is asked
  if [ "$1" = base ]; then echo "$SERVE:$BASE"; else echo "$SERVE:$work/models/$1"; fi
}

# asked NAME MODEL SPLIT CONTEXT WINDOW MODE [OPTION]...: WORK/results/NAME-CONTEXT-WINDOW-MODE.jsonl
asked() {
  local file=$work/results/$1-$4-$5-$6.jsonl how=(--context "$4" --window "$5" --mode "$6")
  [ "$6" = mcq ] || how+=("${judge[@]}" --votes "$VOTES")
  made "$file" eval "$splits/$3.jsonl" --histories "$histories" -m "$2" "${how[@]}" "${@:7}"
}

# own_asked NAME CONTEXT [OPTION]...: the base or a trained model on the benchmark, in each mode
own_asked() {
  local name=$1 context=$2 mode
  shift 2
  for mode in $MODES; do
    asked "$name" "$(own "$name")" bench "$context" "$OWN_WINDOW" "$mode" --reply-form "$FORM" \
      --max-tokens "$MAX_TOKENS" "${of_own[@]}" "$@"
  done
}

# taught CONTEXT [OPTION]...: the teacher's replies to the training questions, as many of each mode as in the mix, in
# WORK/data/teacher-CONTEXT.jsonl
taught() {
  local context=$1 file=$work/data/teacher-$1.jsonl results=$work/results/teacher-$1-$OWN_WINDOW
  local options=(--reply-form "$FORM" "${of_models[@]}" "${@:2}")
  asked teacher "$TEACHER" train "$context" "$OWN_WINDOW" mcq "${options[@]}"
  asked teacher "$TEACHER" train "$context" "$OWN_WINDOW" open "${options[@]}" \
    --limit "$(($(failed "$splits/train.jsonl") / 4))"
  kept "$file" cat "$results-mcq.jsonl" "$results-open.jsonl"
}

# histories_of SPLIT: the histories of its personas, in WORK/data/SPLIT-histories.jsonl. Records are compact JSON, in
# whose strings quotation marks are escaped: "key":"value" can only be a key and its value.
histories_of() {
  kept "$work/data/$1-personas.txt" grep -o '"persona_id":"[^"]*"' "$splits/$1.jsonl"
  kept "$work/data/$1-histories.jsonl" grep -F -f "$work/data/$1-personas.txt" "$histories"
}

# remembered NAME MODEL SPLIT [OPTION]...: memories of a split's histories, one after each chunk, in
# WORK/memories/NAME-WINDOW.jsonl
remembered() {
  histories_of "$3"
  made "$work/memories/$1-$OWN_WINDOW.jsonl" memdump "$work/data/$3-histories.jsonl" -m "$2" --trace \
    --window "$OWN_WINDOW" "${memory[@]}" "${@:4}"
}

# ---- the steps -------------------------------------------------------------------------------------------------------

step_data() {
  local split
  if [ "$histories" != "$DATA/histories.jsonl" ]; then
    # both files have been renamed, or neither counts
    [ -n "$plan" ] || [ ! -e "$histories.part" ] || rm -f "$all"
    made "$all" import personamem-v2 "$DATA"/benchmark/text/*.csv --histories "$histories" --seed "$SEED"
  fi
  if [ -n "$SIZES" ]; then
    command=(pmem split "$all" --sizes "$SIZES" --seed "$SEED" --into "$splits.part")
    command+=(--dropped "$work/data/left-out.jsonl")
    if lacking "$splits"; then
      say "$splits"
      "$pmem" "${command[@]:1}"
      mv "$splits.part" "$splits"
    fi
  elif [ "$splits" != "$DATA/splits" ]; then
    for split in bench train val; do kept "$splits/$split.jsonl" grep -F "\"split\":\"$split\"" "$all"; done
  fi
}

step_base() { # every model in both windows and both modes
  local model window mode
  for model in $MODELS; do
    for mode in $MODES; do
      for window in $WINDOWS; do
        asked "$(name_of "$model")" "$model" bench full "$window" "$mode" "${of_models[@]}"
      done
    done
  done
}

step_sft() { # the cold start
  local targets=gold
  if [ -n "$TEACHER" ]; then
    targets=$work/data/teacher-snippet.jsonl
    taught snippet
  fi
  trained sft sft "$splits/train.jsonl" -m "local:$BASE" --targets "$targets" --mix "$MIXED" \
    "${short[@]}" "${training[@]}"
}

step_grpo() { # three mixes: the same questions in the same order, as many of them, in other modes
  local mix
  for mix in "mixed $MIXED" "mcq mcq=1" "open open=1"; do
    trained "grpo-${mix% *}" grpo "$splits/train.jsonl" -m "local:$work/models/sft" --mix "${mix#* }" \
      "${rewarded[@]}" "${training[@]}"
  done
}

step_memtrain() { # from a cold start on the teacher's memories, or else from SFT's
  local start=sft
  if [ -n "$TEACHER" ]; then
    start=sft-memory
    remembered teacher "$TEACHER" train "${of_models[@]}"
    taught memory --memories "$work/memories/teacher-$OWN_WINDOW.jsonl"
    trained sft-memory sft "$splits/train.jsonl" -m "local:$BASE" --targets "$work/data/teacher-memory.jsonl" \
      --trajectories "$work/memories/teacher-$OWN_WINDOW.jsonl" "${memory[@]}" "${short[@]}" "${training[@]}"
  fi
  trained memtrain memtrain "$splits/train.jsonl" -m "local:$work/models/$start" --mix "$MIXED" "${memory[@]}" \
    "${rewarded[@]}" "${training[@]}"
}

trained_models="base sft grpo-mixed grpo-mcq grpo-open"
step_trained() { # these with the full history
  local name
  for name in $trained_models; do own_asked "$name" full; done
}

step_memory() { # memories by the base model and by the one that was trained to keep them, and answers from these
  local name
  for name in base memtrain; do
    remembered "$name" "$(own "$name")" bench --max-tokens "$MEMORY_TOKENS" "${of_own[@]}"
    own_asked "$name" memory --memories "$work/memories/$name-$OWN_WINDOW.jsonl"
  done
}

step_errors() { # kinds of mistakes of the first model
  local first window
  read -r first _ <<<"$MODELS"
  read -r window _ <<<"$WINDOWS"
  if [ "$ERRORS" != 0 ] && [ -n "$first" ] && [[ " $MODES " = *" mcq "* ]]; then
    made "$work/results/errors.jsonl" eval --errors "$work/results/$(name_of "$first")-full-$window-mcq.jsonl" \
      --limit "$ERRORS" --questions "$splits/bench.jsonl" "${judge[@]}" "${calls[@]}"
  fi
}

step_paper() { # made anew each time, of what is there
  local mode name files
  for mode in $MODES; do
    files=()
    for name in $MODELS; do found "$(name_of "$name")-full-" "$WINDOWS" "$mode"; done
    table "models-$mode"
    files=()
    for name in $trained_models; do found "$name-full-" "$OWN_WINDOW" "$mode"; done
    for name in base memtrain; do found "$name-memory-" "$OWN_WINDOW" "$mode"; done
    table "training-$mode"
    files=()
    for name in grpo-mixed grpo-mcq grpo-open; do found "$name-full-" "$OWN_WINDOW" "$mode"; done
    table "mixes-$mode"
  done
  files=()
  for mode in $MODES; do
    for name in $MODELS; do found "$(name_of "$name")-full-" "$WINDOWS" "$mode"; done
  done
  page models --questions "$splits/bench.jsonl" --paper
  files=()
  for mode in $MODES; do
    for name in $trained_models memtrain; do
      found "$name-full-" "$OWN_WINDOW" "$mode"
      found "$name-memory-" "$OWN_WINDOW" "$mode"
    done
  done
  page training --questions "$splits/bench.jsonl" --paper
  files=()
  [ ! -e "$work/memories/memtrain-$OWN_WINDOW.jsonl" ] || files=("$work/memories/memtrain-$OWN_WINDOW.jsonl")
  page memory --histories "$work/data/bench-histories.jsonl"
  files=()
  [ ! -e "$work/results/errors.jsonl" ] || files=("$work/results/errors.jsonl")
  table errors
}

found() { # START WINDOWS MODE: adds the results that are there to `files`, with their rejects
  local window file
  for window in $2; do
    file=$work/results/$1$window-$3.jsonl
    [ ! -e "$file" ] || files+=("$file")
    file=${file%.jsonl}.rejects.jsonl
    [ ! -s "$file" ] || files+=("$file")
  done
}

table() { # NAME: of `files`; the first is what the others are compared with
  [ ${#files[@]} -gt 0 ] || return 0
  command=(pmem compare "${files[@]}" --paper --format markdown -o "$work/paper/$1.md")
  [ "$(printf '%s\n' "${files[@]}" | grep -vc 'rejects.jsonl$')" -gt 1 ] ||
    command=(pmem eval --summary "${files[@]}" --format markdown -o "$work/paper/$1.md")
  drawn "$1.md"
}

page() { # NAME [OPTION]...: of `files`
  [ ${#files[@]} -gt 0 ] || return 0
  command=(pmem report "${files[@]}" "${@:2}" -o "$work/paper/$1.html")
  drawn "$1.html"
}

drawn() { # NAME
  if [ -n "$plan" ]; then
    printf '\n# %s: %s\n%s\n' "$step" "$work/paper/$1" "$(quoted)"
  else
    say "$work/paper/$1"
    "$pmem" "${command[@]:1}"
  fi
}

# ---- settings --------------------------------------------------------------------------------------------------------

wrong() { # what is wrong
  echo "paper.sh: $1" >&2
  exit 2
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
plan=
if [ "${1-}" = --plan ]; then
  plan=1
  shift
fi
if [ $# -lt 1 ] || [[ $1 = -* ]]; then
  sed -n '2,/^KEPT=/{/^KEPT=/d;s/^# \{0,1\}//;/^set -/d;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
work=${1%/} steps=" ${*:2} "
[ "$steps" != "  " ] || steps=" $ALL "
for name in $steps; do [[ " $ALL " = *" $name "* ]] || wrong "no step '$name': expected some of $ALL"; done
# shellcheck source=/dev/null
[ ! -e "$work/settings.sh" ] || source "$work/settings.sh"
settings
pmem=$(command -v pmem || echo "$here/.venv/bin/pmem")
[ -x "$pmem" ] || wrong "pmem is not installed: run bash shell/quickstart.sh first"
[ -n "$JUDGE" ] || wrong "JUDGE has to name a model, e.g. JUDGE=openai:gpt-5-mini"
twice=$(for model in $MODELS; do name_of "$model"; done | sort | uniq -d)
[ -z "$twice" ] || wrong "two of MODELS would have the files of $twice"
if [ -e "$DATA/histories.jsonl" ]; then
  histories=$DATA/histories.jsonl all=$DATA/kept.jsonl splits=$DATA/splits
  [ -z "$SIZES" ] || splits=$work/data/splits
elif compgen -G "$DATA/benchmark/text/*.csv" >/dev/null; then
  histories=$work/data/histories.jsonl all=$work/data/questions.jsonl splits=$work/data/splits
else
  wrong "DATA has to name a folder with benchmark/text/*.csv or with histories.jsonl"
fi
used=$(for name in $KEPT; do echo "$name=${!name}"; done)
if [ -e "$work/settings" ] && [ "$(cat "$work/settings")" != "$used" ]; then
  diff "$work/settings" <(echo "$used") >&2 || true
  wrong "$work holds what was made with other settings (<): name another folder"
fi
if [ -z "$plan" ]; then
  mkdir -p "$work"/{data,results,models,metrics,memories,paper}
  [ "$histories" = "$DATA/histories.jsonl" ] || [ -n "$SIZES" ] || mkdir -p "$splits"
  echo "$used" >"$work/settings"
fi

calls=(-j "$JOBS" --seed "$SEED" --cache "$CACHE")
judge=(--judge-model "$JUDGE" ${JUDGE_BASE_URL:+--judge-base-url "$JUDGE_BASE_URL"})
read -ra of_models <<<"$MODEL_OPTIONS"
of_models=("${calls[@]}" ${BASE_URL:+--base-url "$BASE_URL"} ${of_models[@]+"${of_models[@]}"})
read -ra of_own <<<"$OWN_OPTIONS"
of_own=("${calls[@]}" ${of_own[@]+"${of_own[@]}"})
read -ra training <<<"$TRAIN_OPTIONS"
training+=(--engine "$ENGINE" ${PRESET:+--preset "$PRESET"} --histories "$histories" --window "$OWN_WINDOW"
  --reply-form "$FORM" --save-every "$SAVE_EVERY" --seed "$SEED")
memory=(--chunk-tokens "$CHUNK_TOKENS" --memory-tokens "$MEMORY_TOKENS")
short=(--steps "$SFT_STEPS" --batch-size "$SFT_BATCH")
rewarded=(--steps "$STEPS" --batch-size "$BATCH" --group "$GROUP" --max-tokens "$MAX_TOKENS" "${judge[@]}"
  --votes "$VOTES" -j "$JOBS" --cache "$CACHE")
[ "$VAL_EVERY" = none ] || rewarded+=(--eval-set "$splits/val.jsonl" --eval-every "$VAL_EVERY")

for step in $ALL; do
  [[ $steps != *" $step "* ]] || "step_$step"
done
step=''
[ -n "$plan" ] || echo "$work/paper: $(cd "$work/paper" && echo *)"
