"""NUMBER questions of 40 personas; the right option is the longest in every second one, or, with `fair`, in none more."""

import json
import random
import sys
from pathlib import Path

rng = random.Random(5)
base = json.loads(Path(__file__).with_name("question.json").read_text())
votes = base["votes"]
for number in range(int(sys.argv[1])):
    options = [" ".join(f"w{rng.randrange(99):02}" for _ in range(rng.randrange(4, 8))) for _ in range(4)]
    gold = rng.randrange(4)
    if number % 2 and sys.argv[2:] != ["fair"]:
        options[gold] += " w00 w00 w00 w00"
    case = "own" if number % 4 else "other"
    persona = f"p-{rng.randrange(40):016x}"
    letters = [letter for letter in "ABCD" if letter != "ABCD"[gold]]
    cast = [vote for vote in votes if vote["choice"] is None]
    cast += [{**vote, "n": n, "choice": letters[n % 3]} for n in range(4) for vote in votes if vote["check"] == "blind"]
    cast += [{**vote, "choice": letter} for letter in letters for vote in votes if vote["check"] == "distractors"]
    wrong = [{"text": text, "made": "generic"} for place, text in enumerate(options) if place != gold]
    qa = {**base, "id": f"q-{number:016x}", "persona_id": persona, "case": case, "answer": options[gold], "votes": cast}
    qa |= {"distractors": wrong, "options": options, "gold": "ABCD"[gold]}
    sys.stdout.write(json.dumps(qa, separators=(",", ":")) + "\n")
