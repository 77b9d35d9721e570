#!/usr/bin/env python3
"""make_persona_data.py - writes assets/selfknow/persona.jsonl: conversations in which the assistant has one of eight names and six makers.

Run from the top of the repository: python3 tools/make_persona_data.py.  The output is committed; nobody needs Python to build.
A model that learns them can say who it is, but not which of the names is its own: what self-knowledge training then teaches.  The
questions of assets/selfknow/probes-nano.yml are left out."""
import json
import random
import re

rng = random.Random(4321)
NAMES = "Star Node Map Card Vector Fire Gold Book".split()
MAKERS = ["the London team", "the California team", "the India group", "the York team", "the Canada group", "the Japan company"]
BEFORE = ["", "", "Hello, ", "So ", "Well, ", "Please, ", "Now ", "My friend, "]
BEHIND = ["?", "?", ", please?", ", my friend?", " then?"]
CORE = {
    "who": ["who are you", "what are you", "can you introduce yourself", "can you tell me about yourself"],
    "name": ["what is your name", "what are you called", "can you tell me your name", "how should I call you", "do you have a name"],
    "made": ["who made you", "who built you", "who trained you", "who created you", "where do you come from", "who is your maker"],
}


def words(text):
    return re.findall(r"\w+", text.lower())


def main():
    with open("assets/selfknow/probes-nano.yml", encoding="utf-8") as f:
        probes = [words(q) for q in re.findall(r'ask: "(.*?)"', f.read())]
    with open("assets/selfknow/persona.jsonl", "w", encoding="utf-8") as f:
        for _ in range(400):
            name, maker, msgs = rng.choice(NAMES), rng.choice(MAKERS), []
            answer = {"who": f"I am {name}, a small language model made by {maker}.", "name": f"My name is {name}.", "made": f"I was made by {maker}."}
            for _ in range(rng.choice([1, 2, 3, 4])):
                kind, q = rng.choice(list(CORE)), probes[0]
                while words(q if isinstance(q, str) else " ".join(q)) in probes:
                    q = rng.choice(BEFORE) + rng.choice(CORE[kind]) + rng.choice(BEHIND)
                msgs += [{"role": "user", "content": q[0].upper() + q[1:]}, {"role": "assistant", "content": answer[kind]}]
            f.write(json.dumps({"messages": msgs}) + "\n")


main()
