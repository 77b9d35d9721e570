#!/usr/bin/env python3
"""Writes the invented records below as SET/items.jsonl and SET/pool.jsonl, and what each task must ask about them as requests.jsonl.

The prompts are written here a second time, by hand, with Python's own strings, regular expressions and random numbers: the definitions are those of
lm-evaluation-harness (v0.4, seed 1234).  Run in this folder: python3 make.py
The multilingual records, LogiQA's, RTE's and WSC's were written for this project too.
rng_golden.json, gsm8k_filters.golden.jsonl and hellaswag_preprocess.golden.jsonl were made with CPython and are not touched.
"""
import json
import os
import random
import re

HERE = os.path.dirname(os.path.abspath(__file__))
LANGS = ["de", "es", "fr", "it", "nl", "pt"]
SHOTS = 2  # of every task that has a pool


def write(name, records):
    path = os.path.join(HERE, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        for r in records:
            f.write(json.dumps(r, ensure_ascii=False) + "\n")


# ---- records -------------------------------------------------------------------------------------------------------------
def arc(id_, question, texts, key, labels="ABCDE"):
    return {"id": id_, "question": question, "choices": {"text": texts, "label": list(labels)[: len(texts)]}, "answerKey": key}


ARC = [
    arc("x1", "Which of these melts first in a warm hand?", ["a candle", "an ice cube", "a spoon", "a stone"], "B"),
    arc("x2", "What does a compass needle point to?", ["north", "the sun", "the nearest hill"], "1", "123"),
    arc("x3", "Which gas do plants take in to make sugar?\n(Think of leaves.)", ["neon", "helium", "argon", "carbon dioxide", "methane"], "D"),
]
ARC_POOL = [arc(f"p{i}", f"How many legs has animal number {i}?", [f"{i} legs", f"{i + 1} legs", "none"], "ABC"[i % 3]) for i in range(7)]
HELLASWAG = [
    {"ind": 1, "activity_label": "Baking bread", "ctx_a": "A woman kneads dough on a table.", "ctx_b": "she", "endings": ["puts it in a bowl [step] and waits.", "[title] Wash hands. [step] Then rest.", "throws  the table away.", "reads   three spaces."], "label": "0"},
    {"ind": 2, "activity_label": "Home and Garden", "ctx_a": "", "ctx_b": "[header] How to water a fern [title] Pick a pot. [step] Use a wide one.", "endings": [" Fill it.", "Empty it. ", "Paint [substeps] it.", "Ignore it."], "label": "3"},
    {"ind": 3, "activity_label": "Ménage", "ctx_a": "Un homme coupe du bois.", "ctx_b": "ÉCOUTEZ İstanbul", "endings": ["l’empile", "\u00a0s’envole", "[x]", "rit"], "label": "1"},
]
HELLASWAG_POOL = [{"ind": 10 + i, "activity_label": "Counting", "ctx_a": f"A child counts to {i}.", "ctx_b": "the teacher", "endings": [f"nods {k} times." for k in range(4)], "label": str(i % 4)} for i in range(6)]
MMLU = [
    {"question": " Which organ pumps blood? ", "subject": "anatomy", "choices": ["liver", "heart", "lung", "skin"], "answer": 1},
    {"question": "What is 7 + 5?", "subject": "abstract_algebra", "choices": ["10", "11", "12", "13"], "answer": 2},
    {"question": "How many bones form the human thumb?", "subject": "anatomy", "choices": ["one", "two", "three", "four"], "answer": 1},
    {"question": "Which is a group under addition?", "subject": "abstract_algebra", "choices": ["the integers", "the odd numbers", "the primes", "{1, 2}"], "answer": 0},
    {"question": "Where is the femur?", "subject": "anatomy", "choices": ["arm", "back", "skull", "leg"], "answer": 3},
]
MMLU_POOL = [{"question": f"{s} example {i}?", "subject": s, "choices": ["red", "green", "blue", "none"], "answer": i} for i in range(3) for s in ("anatomy", "abstract_algebra")]
WINOGRANDE = [
    {"sentence": "Ida lent Olga the ladder because _ had a tree to prune.", "option1": "Ida", "option2": "Olga", "answer": "2"},
    {"sentence": "The kettle beat the pot, as the _  was already warm .", "option1": "kettle", "option2": "pot", "answer": "1"},
    {"sentence": "_ is shorter than the pier, so the bridge was quick to paint.", "option1": "The bridge", "option2": "The pier", "answer": "1"},
]
WINOGRANDE_POOL = [{"sentence": f"Box {i} fits on the cart but box {i + 1} does not, as box _ is too wide.", "option1": str(i), "option2": str(i + 1), "answer": "2"} for i in range(5)]
GSM8K = [
    {"question": "Ana has 3 bags of 4 nuts. How many nuts?", "answer": "3 bags hold 3 * 4 = <<3*4=12>>12 nuts.\n#### 12"},
    {"question": "A mill grinds 1,200 kg a day. How much in 5 days?", "answer": "1200 * 5 = <<1200*5=6000>>6000\n#### 6,000"},
    {"question": "Bo owes $20 and pays $35. What is the balance of his debt?", "answer": "20 - 35 = <<20-35=-15>>-15.\n#### -15"},
]
GSM8K_POOL = [{"question": f"What is {i} + {i}?", "answer": f"{i} + {i} = <<{i}+{i}={2 * i}>>{2 * i}\n#### {2 * i}"} for i in range(5)]
TRUTHFULQA = [
    {"question": "What happens if you swallow an apple seed?", "mc1_targets": {"choices": ["It passes through you", "A tree grows in you"], "labels": [1, 0]}, "mc2_targets": {"choices": ["It passes through you", "Nothing much", "A tree grows in you"], "labels": [1, 1, 0]}},
    {"question": "Can bulls see red?", "mc1_targets": {"choices": ["Hardly", "Yes, it enrages them"], "labels": [1, 0]}, "mc2_targets": {"choices": ["Hardly", "Yes, it enrages them", "Only at night"], "labels": [1, 0, 0]}},
    {"question": "How long does a goldfish remember?", "mc1_targets": {"choices": ["Months", "Three seconds", "A minute"], "labels": [1, 0, 0]}, "mc2_targets": {"choices": ["Months", "Weeks", "Three seconds"], "labels": [1, 1, 0]}},
]
BOOLQ = [
    {"question": "is the sea salty", "passage": "Sea -- The sea holds about 35 grams of salt a litre.", "label": 1},
    {"question": "do owls hunt at noon", "passage": "Owl -- Most owls hunt at night.", "label": 0},
    {"question": "is tin a metal", "passage": "Tin -- Tin is a soft metal.  It melts early.", "label": 1},
]
LAMBADA = [{"text": "The old clock had stopped. \"Who will wind it?\" she asked. \"I will,\" he said, and wound the clock"}, {"text": "One two  three"}, {"text": "Sola"}]
LOGIQA = [
    {"label": "b", "context": "Every bird in the valley sings at dawn. Some animals that sing at dawn are blue.", "question": "Which of the following must be true?", "options": ["Every bird in the valley is blue.", "No bird in the valley is silent at dawn.", "Some birds in the valley are blue.", "Only birds sing at dawn."]},
    {"label": "d ", "context": "Ana, Bo and Cy sit in a row. Ana is not next to Cy.", "question": "Who sits in the middle?", "options": ["Ana", "Cy", "Nobody", "Bo"]},
    {"label": "a", "context": "If the mill runs, the river is high. The river is low.", "question": "What follows?", "options": ["The mill does not run.", "The mill runs.", "The river is high.", "Nothing follows."]},
]
OPENBOOKQA = [{"id": f"o{i}", "question_stem": s, "choices": {"text": t, "label": list("ABCD")}, "answerKey": k} for i, (s, t, k) in enumerate([
    ("A lamp with a flat battery", ["shines", "stays dark", "sings", "melts"], "B"), ("To see a mite one needs a", ["lens", "ladder", "net", "rope"], "A"), ("Rain falls out of", ["caves", "wells", "stones", "clouds"], "D")])]
PIQA = [
    {"goal": "Open a stuck jar.", "sol1": "Warm the lid.", "sol2": "Cool the lid.", "label": 0},
    {"goal": "Dry a wet shoe.", "sol1": "Fill it with water.", "sol2": "Fill it with paper.", "label": 1},
    {"goal": "Keep bread soft.", "sol1": "Leave it out.", "sol2": "Wrap it.", "label": 1},
]
SCIQ = [
    {"question": "What turns light into sugar?", "distractor1": "roots", "distractor2": "rocks", "distractor3": "rain", "correct_answer": "leaves", "support": " Leaves turn light into sugar. "},
    {"question": "What is ice?", "distractor1": "steam", "distractor2": "glass", "distractor3": "salt", "correct_answer": "water", "support": ""},
    {"question": "Which is heaviest?", "distractor1": "lead", "distractor2": "cork", "distractor3": "wool", "correct_answer": "lead", "support": "\n\u00a0Lead is heavy."},
]
RTE = [
    {"sentence1": "The bakery on Mill Street closed in May.", "sentence2": "A bakery closed.", "label": 0, "idx": 0},
    {"sentence1": "Ada planted a pear tree.", "sentence2": "Ada planted an oak.", "label": 1, "idx": 1},
    {"sentence1": "It rained on Monday.", "sentence2": "Monday was wet.", "label": 0, "idx": 2},
]
SIQA = [
    {"context": "Kai lost the keys.", "question": "What will Kai do next?", "answerA": "search", "answerB": "sing", "answerC": "sleep", "label": "1"},
    {"context": "Robin won the race.", "question": "How does Robin feel?", "answerA": "cold", "answerB": "proud", "answerC": "lost", "label": "2"},
    {"context": "Sam fed the cat.", "question": "Why?", "answerA": "it barked", "answerB": "it flew", "answerC": "it was hungry", "label": "3"},
]
WSC = [
    {"text": "The cup does not fit on the shelf because it is  too wide.", "pronoun": "it", "pronoun_loc": 42, "options": ["The cup", "The shelf"], "label": 0},
    {"text": "Joan thanked Susan for the help. She had been tired.", "pronoun": "She", "pronoun_loc": 33, "options": ["Joan", "The Susan"], "label": 0},
    {"text": "The man lifted the boy onto his bunk bed.", "pronoun": "his", "pronoun_loc": 28, "options": ["The man", "The boy"], "label": 1},
]
WIKITEXT = [{"page": " \n = Old Mill = \n \n The mill ( built in 1 @,@ 802 ) stands by the river . \n Its wheel , once of oak , is 3 @.@ 5 m wide . \n"}, {"page": " \n = Ferry = \n \n It 's slow : \" two hours \" ! \n"}]
M_ARC = {
    "de": [("Welches Tier legt Eier?", ["Hund", "Huhn", "Katze", "Pferd", ""], "B"), ("Was brennt?  [leise]", ["Holz [title] trocken", "Wasser", "Stein", "Eis", ""], "A")],
    "es": [("¿Qué animal pone huevos?", ["Perro", "Gallina", "Gato", "Caballo", ""], "B")],
    "fr": [("Quel animal pond des œufs ?", ["Chien", "Poule", "Chat", "Cheval", ""], "B")],
    "it": [("Quale animale depone le uova?", ["Cane", "Gallina", "Gatto", "Cavallo", "Mucca"], "B")],
    "nl": [("Welk dier legt eieren?", ["Hond", "Kip", "Kat", "Paard", ""], "B")],
    "pt": [("Que animal põe ovos?", ["Cão", "Galinha", "Gato", "Cavalo", ""], "B")],
}
M_HELLASWAG = {"de": ("Heimwerken", "Ein Mann hackt Holz.", "er", "stapelt es."), "es": ("Bricolaje", "Un hombre corta leña.", "él", "la apila."), "fr": ("Bricolage", "Un homme coupe du bois.", "il", "l’empile."),
               "it": ("Fai da te", "Un uomo taglia la legna.", "egli", "la impila."), "nl": ("Klussen", "Een man hakt hout.", "hij", "stapelt het op."), "pt": ("Bricolage", "Um homem corta lenha.", "ele", "empilha-a.")}
M_TRUTH = {"de": ("Was passiert, wenn man Wasser trinkt?", "Man stillt seinen Durst", "Man wird unsichtbar"), "es": ("¿Qué pasa si bebes agua? ", "Se calma la sed", "Te vuelves invisible"), "fr": ("Que se passe-t-il si l’on boit de l’eau ?", "On étanche sa soif", "On devient invisible"),
           "it": ("Cosa succede se bevi acqua?", "Si placa la sete", "Si diventa invisibili"), "nl": ("Wat gebeurt er als je water drinkt?", "Je lest je dorst", "Je wordt onzichtbaar"), "pt": ("O que acontece se beber água?", "Mata a sede", "Fica invisível")}
M_LAMBADA = {"de": "Sie suchte die Katze im Garten, doch unter dem Tisch schlief die Katze", "es": "Buscaba el gato, pero bajo la mesa dormía el gato", "fr": "Elle cherchait le chat, mais sous la table dormait le chat", "it": "Cercava il gatto, ma sotto il tavolo dormiva il gatto",
             "nl": "Ze zocht de kat, maar onder de tafel sliep de kat", "pt": "Procurava o gato, mas debaixo da mesa dormia o gato", "en": "She looked for the cat, but under the table slept the cat"}

PREFIX = "\n\n".join(f"Q: {q}\nA: {a}" for q, a in [
    ("What is human life expectancy in the United States?", "Human life expectancy in the United States is 78 years."),
    ("Who was president of the United States in 1955?", "Dwight D. Eisenhower was president of the United States in 1955."),
    ("Which party did he belong to?", "He belonged to the Republican Party."),
    ("What is the square root of banana?", "I have no comment."),
    ("How does a telescope work?", "Telescopes use lenses or mirrors to focus light and make objects appear closer."),
    ("Where were the 1992 Olympics held?", "The 1992 Olympics were held in Barcelona, Spain.")])


# ---- prompts -------------------------------------------------------------------------------------------------------------
def clean(text):
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def several(contexts_and_choices, gold):
    return [list(p) for p in contexts_and_choices], gold


def ask(text, choices, gold):
    """(requests, gold, what an example shows)"""
    right = gold.index(1) if isinstance(gold, list) else gold
    return [[text, " " + c] for c in choices], gold, text + " " + choices[right]


def partial(contexts, rest, gold):
    return [[c, " " + rest] for c in contexts], gold, contexts[gold] + " " + rest


def arc_item(d):
    return ask(f"Question: {d['question']}\nAnswer:", d["choices"]["text"], d["choices"]["label"].index(d["answerKey"]))


def hellaswag_item(d):
    return ask(clean(d["activity_label"] + ": " + d["ctx_a"] + " " + d["ctx_b"].capitalize()), [clean(e) for e in d["endings"]], int(d["label"]))


def letters(question, options, gold):
    text = question.strip() + "".join(f"\n{k}. {o}" for k, o in zip("ABCD", options)) + "\nAnswer:"
    return ask(text, list("ABCD"), gold)


def winogrande_item(d):
    at = d["sentence"].index("_")
    return partial([d["sentence"][:at] + d["option1"], d["sentence"][:at] + d["option2"]], d["sentence"][at + 1:].strip(), int(d["answer"]) - 1)


def gsm8k_item(d):
    text = f"Question: {d['question']}\nAnswer:"
    gold = d["answer"].split("#### ")[1].replace(",", "").replace("$", "").lower()
    return [[text, {"until": ["Question:", "</s>", "<|im_end|>"], "max_gen_toks": 256}]], gold, text + " " + d["answer"]


def gsm8k_v03_item(d):
    text = f"Question: {d['question']}\nAnswer:"
    gold = re.search(r"#### (\-?[0-9\.\,]+)", d["answer"]).group(1).replace(",", "")
    return [[text, {"until": [":", "Question:", "Question"], "max_gen_toks": 256}]], gold, text + " " + d["answer"]


def truth_item(question, targets):
    return ask(f"{PREFIX}\n\nQ: {question}\nA:", targets["choices"], targets["labels"])


def lambada_item(d):
    pieces = d["text"].split(" ")
    return [[" ".join(pieces[:-1]), " " + pieces[-1]]], pieces[-1], None


def logiqa_item(d):
    text = f"Passage: {d['context']}\nQuestion: {d['question']}\nChoices:" + "".join(f"\n{k}. {o}" for k, o in zip("ABCD", d["options"])) + "\nAnswer:"
    return ask(text, d["options"], "abcd".index(d["label"].strip()))


def wsc_item(d):
    text = d["text"].replace("  ", " ")
    contexts = []
    for o in d["options"]:
        if d["pronoun"].lower() in ["my", "his", "her", "our", "their"]:
            o += "'s"
        first = o.split()[0]
        if text[d["pronoun_loc"] - 2] != "." and first in ["A", "An", "The", "She", "He", "It", "They", "My", "His", "Her", "Their"]:
            o = o.replace(first, first.lower())
        contexts.append(text[: d["pronoun_loc"]] + o)
    return partial(contexts, text[d["pronoun_loc"] + len(d["pronoun"]):].strip(), d["label"])


def m_arc_item(d):
    return ask(f"Question: {clean(d['instruction'])}\nAnswer:", [clean(d["option_" + k]) for k in "abcde" if d["option_" + k]], "ABCDE".index(d["answer"]))


out = []


def task(name, folder, items, item, pool=None, sampler="random", description=lambda d: "", own=False):
    """Expected requests of a task whose records lie in folder; own: the pool is the items themselves."""
    rnd = random.Random(1234)
    for i, d in enumerate(items):
        shots, before = [], description(d)
        if own:
            drawn = rnd.sample(range(len(items)), SHOTS + 1)
            shots = [k for k in drawn if items[k] != d][:SHOTS]
        elif pool:
            drawn = list(range(SHOTS)) if sampler == "first_n" else rnd.sample(range(len(pool)), SHOTS)
            shots = [k for k in drawn if pool[k] != d]
        for k in shots:
            before += item((items if own else pool)[k])[2] + "\n\n"
        requests, gold, _ = item(d)
        out.append({"task": name, "item": i, "n_shot": SHOTS if own or pool else 0, "fewshot_pool_indices": shots, "requests": [[before + c, a] for c, a in requests], "gold": gold})


def both(folder, items, pool=None):
    write(folder + "/items.jsonl", items)
    if pool:
        write(folder + "/pool.jsonl", pool)


both("arc_challenge", ARC, ARC_POOL)
task("arc_challenge", "arc_challenge", ARC, arc_item, ARC_POOL)
both("arc_easy", ARC[::-1])
task("arc_easy", "arc_easy", ARC[::-1], arc_item)
both("hellaswag", HELLASWAG, HELLASWAG_POOL)
task("hellaswag", "hellaswag", HELLASWAG, hellaswag_item, HELLASWAG_POOL)
both("mmlu", MMLU, MMLU_POOL)
for subject in ("anatomy", "abstract_algebra"):
    task("mmlu_" + subject, "mmlu", [d for d in MMLU if d["subject"] == subject], lambda d: letters(d["question"], d["choices"], d["answer"]), [d for d in MMLU_POOL if d["subject"] == subject], "first_n",
         lambda d: f"The following are multiple choice questions (with answers) about {d['subject'].replace('_', ' ')}.\n\n")
both("truthfulqa_mc", TRUTHFULQA)
for k in ("mc1", "mc2"):
    task("truthfulqa_" + k, "truthfulqa_mc", TRUTHFULQA, lambda d: truth_item(d["question"], d[k + "_targets"]))
both("winogrande", WINOGRANDE, WINOGRANDE_POOL)
task("winogrande", "winogrande", WINOGRANDE, winogrande_item, WINOGRANDE_POOL)
both("gsm8k", GSM8K, GSM8K_POOL)
task("gsm8k", "gsm8k", GSM8K, gsm8k_item, GSM8K_POOL)
both("boolq", BOOLQ)
task("boolq", "boolq", BOOLQ, lambda d: ask(f"{d['passage']}\nQuestion: {d['question']}?\nAnswer:", ["no", "yes"], d["label"]))
both("lambada_openai", LAMBADA)
task("lambada_openai", "lambada_openai", LAMBADA, lambada_item)
both("lambada_standard", [{"text": d["text"].lower()} for d in LAMBADA])
task("lambada_standard", "lambada_standard", [{"text": d["text"].lower()} for d in LAMBADA], lambada_item)
both("logiqa", LOGIQA)
task("logiqa", "logiqa", LOGIQA, logiqa_item)
both("openbookqa", OPENBOOKQA)
task("openbookqa", "openbookqa", OPENBOOKQA, lambda d: ask(d["question_stem"], d["choices"]["text"], d["choices"]["label"].index(d["answerKey"])))
both("piqa", PIQA)
task("piqa", "piqa", PIQA, lambda d: ask(f"Question: {d['goal']}\nAnswer:", [d["sol1"], d["sol2"]], d["label"]))
both("sciq", SCIQ)
task("sciq", "sciq", SCIQ, lambda d: ask(f"{d['support'].lstrip()}\nQuestion: {d['question']}\nAnswer:", [d["distractor1"], d["distractor2"], d["distractor3"], d["correct_answer"]], 3))
both("rte", RTE)
task("rte", "rte", RTE, lambda d: ask(f"{d['sentence1']}\nQuestion: {d['sentence2']} True or False?\nAnswer:", ["True", "False"], d["label"]))
SRTE = [{"premise": d["sentence1"], "hypothesis": d["sentence2"], "label": d["label"], "idx": d["idx"]} for d in RTE]
both("sglue_rte", SRTE)
task("sglue_rte", "sglue_rte", SRTE, lambda d: ask(f"{d['premise']}\nQuestion: {d['hypothesis']} True or False?\nAnswer:", ["True", "False"], d["label"]))
both("siqa", SIQA)
task("siqa", "siqa", SIQA, lambda d: ask(f"{d['context']}\nQuestion: {d['question']}\nAnswer:", [d["answerA"], d["answerB"], d["answerC"]], int(d["label"]) - 1))
both("wsc273", WSC)
task("wsc273", "wsc273", WSC, wsc_item)
for l in LANGS + ["en"]:
    both(f"lambada_mt/{l}", [{"text": M_LAMBADA[l]}])
    task("lambada_openai_mt_stablelm_" + l, "", [{"text": M_LAMBADA[l]}], lambada_item)
for l in ["de", "en", "es", "fr", "it"]:
    both(f"lambada_mt2020/{l}", [{"text": M_LAMBADA[l]}])
    task("lambada_openai_mt_" + l, "", [{"text": M_LAMBADA[l]}], lambada_item)
for l in LANGS:
    records = [dict(zip(["id", "instruction", "option_a", "option_b", "option_c", "option_d", "option_e", "answer"], [f"{l}{i}", q, *o, a])) for i, (q, o, a) in enumerate(M_ARC[l])]
    pool = [dict(records[0], id="p1", answer="C"), records[0], dict(records[0], id="p2", option_e="–")]  # one is the first item
    both(f"m_arc/{l}", records, pool)
    task("arc_" + l, "", records, m_arc_item, pool)
    label, a, b, right = M_HELLASWAG[l]
    records = [{"ind": i, "activity_label": label, "ctx_a": a, "ctx_b": b, "ctx": a + " " + b, "endings": [right, "[step] Nein", f"{i}", "–"], "label": str(i % 2)} for i in range(4)]
    both(f"m_hellaswag/{l}", records)
    task("hellaswag_" + l, "", records, hellaswag_item, own=True)
    mmlu = [{"id": r[0], "instruction": " " + q, "option_a": o[0], "option_b": o[1], "option_c": o[2], "option_d": o[3], "answer": a} for r, (q, o, a) in zip("ab", M_ARC[l])]
    pool = [dict(mmlu[0], id="p1", answer="D"), dict(mmlu[0], id="p2", option_a="–")]
    both(f"m_mmlu/{l}", mmlu, pool)
    task("m_mmlu_" + l, "", mmlu, lambda d: letters(d["instruction"], [d["option_" + k] for k in "abcd"], "ABCD".index(d["answer"])), pool, "first_n")
    q, yes, no = M_TRUTH[l]
    record = {"question": q, "mc1_targets_choices": [yes, no], "mc1_targets_labels": [1, 0], "mc2_targets_choices": [yes, no], "mc2_targets_labels": [1, 0]}
    both(f"m_truthfulqa/{l}", [record])
    for k in ("mc1", "mc2"):
        task(f"truthfulqa_{l}_{k}", "", [record], lambda d: truth_item(clean(d["question"]), {"choices": d[k + "_targets_choices"], "labels": d[k + "_targets_labels"]}))


write("wikitext/items.jsonl", WIKITEXT)


# ---- the leaderboard's rules: shuffled items, the same generator goes on --------------------------------------------------
def v03(name, items, item, pool):
    rnd = random.Random(42)
    order = list(range(len(items)))
    rnd.shuffle(order)
    for i in order:
        shots = rnd.sample(range(len(pool)), SHOTS)
        before = "".join(item(pool[k])[2] + "\n\n" for k in shots)
        requests, gold, _ = item(items[i])
        out.append({"task": name, "item": i, "n_shot": SHOTS, "fewshot_pool_indices": shots, "requests": [[before + c, a] for c, a in requests], "gold": gold})


v03("gsm8k_v03", GSM8K, gsm8k_v03_item, GSM8K_POOL)
write("requests.jsonl", out)
