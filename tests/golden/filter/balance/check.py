"""What was dropped and why; letters of the right option by half; what in the other half isn't as it came."""

import json
from collections import Counter
from pathlib import Path

came, kept, dropped = (Path(f"out/{name}.jsonl").read_text().splitlines() for name in ("judged", "kept", "dropped"))
for reason, number in sorted(Counter(json.loads(line)["message"] for line in dropped).items()):
    print(number, reason)
touched = [json.loads(line) for line in kept if '"balanced":"yes"' in line]
print("letters", sorted(Counter(qa["case"] + qa["gold"] for qa in touched).items()))
print("longest", sum(max(qa["options"], key=len) == qa["answer"] for qa in touched), "of", len(touched))
print("changed elsewhere", sum(line not in came for line in kept if '"balanced":"yes"' not in line))
