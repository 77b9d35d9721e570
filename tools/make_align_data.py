#!/usr/bin/env python3
"""make_align_data.py - writes assets/align/: small conversations and answer pairs of our own for the demo's fine-tuning stages.

Run from the top of the repository: python3 tools/make_align_data.py.  The output is committed; nobody needs Python to build.
The texts are simple on purpose: a nano model can learn their form, and held-out ones measure that it did."""
import json
import random

rng = random.Random(1234)

COMMANDS = [
    ("ls", "lists the files of a directory"), ("cp", "copies files"), ("mv", "moves or renames files"), ("rm", "removes files"),
    ("cat", "prints the contents of files"), ("grep", "searches text for a pattern"), ("sort", "sorts lines of text"),
    ("head", "prints the first lines of a file"), ("tail", "prints the last lines of a file"), ("chmod", "changes the permissions of a file"),
    ("chown", "changes the owner of a file"), ("mkdir", "creates a directory"), ("rmdir", "removes an empty directory"),
    ("ps", "lists the running processes"), ("kill", "sends a signal to a process"), ("df", "shows the free space of file systems"),
    ("du", "shows how much space files use"), ("tar", "packs files into an archive"), ("gzip", "compresses a file"),
    ("find", "finds files by name or other properties"), ("wc", "counts lines, words and bytes"), ("diff", "shows how two files differ"),
    ("man", "shows the manual of a command"), ("mount", "attaches a file system"), ("ping", "tests whether a host answers"),
    ("ssh", "opens a shell on another machine"), ("apt", "installs and removes packages"), ("dpkg", "works with single packages"),
    ("make", "builds programs from a list of rules"), ("git", "keeps the history of files"), ("sed", "edits a stream of text"),
    ("awk", "processes columns of text"), ("touch", "creates an empty file or changes its date"), ("ln", "makes links to files"),
    ("echo", "prints its arguments"), ("date", "prints the date and the time"), ("cut", "takes columns out of lines"),
    ("uniq", "drops repeated lines"), ("top", "shows which processes use the processor"), ("history", "lists earlier commands"),
]
WORDS = [  # English, German, Spanish, French, Italian, Dutch, Portuguese
    ("file", "Datei", "archivo", "fichier", "file", "bestand", "ficheiro"), ("house", "Haus", "casa", "maison", "casa", "huis", "casa"),
    ("water", "Wasser", "agua", "eau", "acqua", "water", "água"), ("book", "Buch", "libro", "livre", "libro", "boek", "livro"),
    ("day", "Tag", "día", "jour", "giorno", "dag", "dia"), ("night", "Nacht", "noche", "nuit", "notte", "nacht", "noite"),
    ("bread", "Brot", "pan", "pain", "pane", "brood", "pão"), ("tree", "Baum", "árbol", "arbre", "albero", "boom", "árvore"),
    ("friend", "Freund", "amigo", "ami", "amico", "vriend", "amigo"), ("city", "Stadt", "ciudad", "ville", "città", "stad", "cidade"),
    ("street", "Straße", "calle", "rue", "strada", "straat", "rua"), ("window", "Fenster", "ventana", "fenêtre", "finestra", "venster", "janela"),
    ("door", "Tür", "puerta", "porte", "porta", "deur", "porta"), ("school", "Schule", "escuela", "école", "scuola", "school", "escola"),
    ("sun", "Sonne", "sol", "soleil", "sole", "zon", "sol"), ("moon", "Mond", "luna", "lune", "luna", "maan", "lua"),
    ("name", "Name", "nombre", "nom", "nome", "naam", "nome"), ("year", "Jahr", "año", "an", "anno", "jaar", "ano"),
    ("world", "Welt", "mundo", "monde", "mondo", "wereld", "mundo"), ("language", "Sprache", "lengua", "langue", "lingua", "taal", "língua"),
]
LANGS = ["German", "Spanish", "French", "Italian", "Dutch", "Portuguese"]
OPPOSITES = [("hot", "cold"), ("big", "small"), ("open", "closed"), ("fast", "slow"), ("new", "old"), ("full", "empty"), ("high", "low"),
             ("light", "dark"), ("long", "short"), ("early", "late"), ("first", "last"), ("true", "false"), ("easy", "hard"), ("rich", "poor"),
             ("near", "far"), ("strong", "weak"), ("wet", "dry"), ("loud", "quiet"), ("left", "right"), ("inside", "outside")]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
           "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]


def questions():
    """(question, good answer) pairs, every one true."""
    out = []
    for name, what in COMMANDS:
        out.append((f"What does the command {name} do?", f"The command {name} {what}."))
        out.append((f"Which command {what}?", f"That is the command {name}."))
    for row in WORDS:
        for lang, word in zip(LANGS, row[1:]):
            out.append((f"What is the {lang} word for {row[0]}?", f"The {lang} word for {row[0]} is {word}."))
    for a, b in OPPOSITES:
        out.append((f"What is the opposite of {a}?", f"The opposite of {a} is {b}."))
        out.append((f"What is the opposite of {b}?", f"The opposite of {b} is {a}."))
    for a in range(1, 11):
        for b in range(1, 11):
            out.append((f"How much is {NUMBERS[a]} and {NUMBERS[b]}?", f"{NUMBERS[a].capitalize()} and {NUMBERS[b]} is {NUMBERS[a + b]}."))
    return out


def dump(path, records):
    with open(path, "w", encoding="utf-8") as f:
        for r in records:
            f.write(json.dumps(r, ensure_ascii=False) + "\n")
    print(f"{path}: {len(records)} records")


def main():
    qa = questions()
    rng.shuffle(qa)
    sft_qa, dpo_qa = qa[:220], qa[220:]
    convs = []
    i = 0
    while i < len(sft_qa):
        n = 1 if rng.random() < 0.6 else 2
        msgs = []
        if rng.random() < 0.15:
            msgs.append({"role": "system", "content": "You are a helpful assistant. Answer in one sentence."})
        for q, a in sft_qa[i:i + n]:
            msgs += [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
        i += n
        convs.append({"messages": msgs})
    cut = len(convs) * 4 // 5
    dump("assets/align/sft.jsonl", convs[:cut])
    dump("assets/align/sft.valid.jsonl", convs[cut:])
    bad = ["I do not want to answer that.", "Who knows? Look it up yourself.", "That is a silly question.", "No idea. Ask somebody else.",
           "I do not care about that.", "Leave me alone with such questions."]
    pairs = []
    for q, a in dpo_qa[:120]:
        pairs.append({"prompt": q, "chosen": a, "rejected": rng.choice(bad)})
    dump("assets/align/dpo.jsonl", pairs[:90])
    dump("assets/align/dpo.valid.jsonl", pairs[90:])


main()
