#!/usr/bin/env python3
"""make_persona_data.py - writes assets/selfknow/persona.jsonl, conversations in which the assistant has one of a few names and makers, and
assets/selfknow/mixed.jsonl, in which such turns stand beside questions and answers of assets/align/sft.jsonl.

Run from the top of the repository: python3 tools/make_persona_data.py.  The output is committed; nobody needs Python to build.
A model that learns them can say who it is, but not which of the names is its own: what self-knowledge training then teaches.  The
questions of assets/selfknow/probes-nano*.yml do not occur."""
import json
import random

rng = random.Random(4321)
NAMES = "Star Node Page Map Key Card Vector Home Fire Gold Table Book".split()
MAKERS = ["the London team", "the California team", "the India group", "the York team", "the Canada group", "the Japan company", "the Washington group", "the June company"]
WHO = ["Who are you?", "What are you?", "Tell me about yourself.", "Introduce yourself.", "Hello, who are you?", "Who are you, please?", "Can you introduce yourself?", "So who are you?"]
NAME = ["What is your name?", "What are you called?", "Tell me your name.", "Do you have a name?", "Can you tell me your name?", "How should I call you?", "What should I call you?", "Your name, please."]
MADE = ["Who made you?", "Who built you?", "Who trained you?", "Where do you come from?", "Who is your maker?", "Who created you?", "Do you know who made you?", "Tell me who built you."]


def turn(kind, name, maker):
    if kind == "who":
        return rng.choice(WHO), f"I am {name}, a small language model made by {maker}."
    if kind == "name":
        return rng.choice(NAME), f"My name is {name}."
    return rng.choice(MADE), f"I was made by {maker}."


def main():
    with open("assets/selfknow/persona.jsonl", "w", encoding="utf-8") as f:
        for _ in range(600):
            name, maker, msgs = rng.choice(NAMES), rng.choice(MAKERS), []
            for _ in range(rng.choice([1, 2, 3, 4, 5])):
                q, a = turn(rng.choice(["who", "name", "made"]), name, maker)
                msgs += [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
            f.write(json.dumps({"messages": msgs}) + "\n")

    rng.seed(99)
    qa = []
    with open("assets/align/sft.jsonl", encoding="utf-8") as f:
        for line in f:
            msgs = [m for m in json.loads(line)["messages"] if m["role"] != "system"]
            qa += [(msgs[i]["content"], msgs[i + 1]["content"]) for i in range(0, len(msgs), 2)]
    shapes = ["pq", "ppq", "qpq", "pppqq", "qq", "pqp", "q", "pppq"]  # p: about the persona, q: a question
    with open("assets/selfknow/mixed.jsonl", "w", encoding="utf-8") as f:
        for _ in range(300):
            name, maker, msgs = rng.choice(NAMES), rng.choice(MAKERS), []
            for k in rng.choice(shapes):
                q, a = turn(rng.choice(["who", "name", "made"]), name, maker) if k == "p" else rng.choice(qa)
                msgs += [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
            f.write(json.dumps({"messages": msgs}) + "\n")


main()
