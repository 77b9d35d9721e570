/* mtbench.h - MT-Bench: 80 questions of two turns in 8 categories, answered by a model, graded by a judge, as FastChat's llm_judge does it
 * (single-answer grading).
 *
 *     struct slm2_mt_data d;
 *     slm2_mt_read(&d, "data/question.jsonl", NULL, NULL, &err);
 *     slm2_mt_answer(&d, &(struct slm2_mt_answer_args){.model = m, .tok = tok, .model_id = "mine", .out = "answers.jsonl"}, &done, &err);
 *
 * Files are FastChat's, so either half can be done by it.  Answers: {"question_id", "answer_id", "model_id", "choices": [{"index": 0, "turns": [a, b]}],
 * "tstamp"}.  Judgements: {"question_id", "model", "judge": [name, prompt], "user_prompt", "judgment", "score", "turn", "tstamp"}.
 * Both grow record by record (base/journal.h); what is there already is not made again. */
#ifndef SLM2_EVAL_MTBENCH_H
#define SLM2_EVAL_MTBENCH_H
#include <jansson.h>
#include <signal.h>

#include "base/http.h"
#include "model/model.h"
#include "tok/chat.h"
#include "tok/tok.h"

enum { SLM2_MT_TURNS = 2, SLM2_MT_MAX_CATEGORIES = 32 };

/* ---- the data ------------------------------------------------------------------------------------------------------- */
struct slm2_mt_question {
    int64_t id;
    const char *category, *turn[SLM2_MT_TURNS];  /* borrowed from the data */
    const char *reference[SLM2_MT_TURNS];        /* NULL: none */
    double temperature;                          /* of its category; "required_temperature" of the record goes before */
};
struct slm2_mt_prompt { const char *name, *system, *user; }; /* user: a template with {question}, {answer}, ... */
struct slm2_mt_data {
    struct slm2_mt_question *v; /* [n] in the file's order */
    int n;
    struct slm2_mt_prompt prompt[2][SLM2_MT_TURNS]; /* [with reference][turn]; names NULL when no prompts were read */
    json_t *owner;              /* the strings live here */
};
/* references and prompts may be NULL: they are wanted for judging only.  SLM2_EFORMAT names file and line; on failure nothing is held. */
slm2_status slm2_mt_read(struct slm2_mt_data *d, const char *questions, const char *prompts, const char *references, struct slm2_err *err);
void slm2_mt_data_free(struct slm2_mt_data *d);
double slm2_mt_temperature(const char *category); /* writing, roleplay 0.7; stem, humanities 0.1; extraction, math, coding, reasoning 0; others 0.7 */
bool slm2_mt_needs_reference(const char *category); /* math, reasoning, coding */

/* ---- answers -------------------------------------------------------------------------------------------------------- */
struct slm2_mt_answer_args {
    const struct slm2_model *model; /* borrowed, with its tokenizer */
    const struct slm2_tok *tok;
    const char *model_id;           /* in the records */
    const char *out;                /* the file of answers */
    enum slm2_chat_template tmpl;   /* the model's own */
    int max_new;                    /* tokens of an answer; 0: 1024 */
    int top_k;                      /* 0: off; 50 is transformers' default, which FastChat leaves as it is */
    float top_p;                    /* 0 or 1: off */
    float repetition_penalty;       /* 0 or 1: off */
    int64_t seed;
    int64_t limit;                  /* questions, from the first; 0: all */
    int n_seq;                      /* conversations at once; 0: 8.  The answers do not depend on it. */
    int n_ctx;                      /* tokens of a conversation; 0: the model's context */
    const char *backend, *isa;
    bool exact;
    int n_threads;
    const volatile sig_atomic_t *interrupt; /* SLM2_ESTOP; conversations that are not complete are made again by the next call */
};
struct slm2_mt_answer_done {
    int n_question, n_kept, n_new; /* asked for, there already, made now */
    int n_cut;                     /* prompts that were longer than the context allows: their beginning was left out */
    int n_long;                    /* answers that ended because max_new or the context did */
    int64_t n_prompt, n_token;     /* tokens read and made now */
    double seconds;
};
/* Answers the questions that out lacks.  An answer is a function of model (slm2_model_key), tokenizer, kernels, settings and question: answer_id is made of these, and an
 * answer that others gave is SLM2_EUSAGE.  When all are there, the file is put in the order of the questions. */
slm2_status slm2_mt_answer(const struct slm2_mt_data *d, const struct slm2_mt_answer_args *a, struct slm2_mt_answer_done *done, struct slm2_err *err);

/* ---- judgements ------------------------------------------------------------------------------------------------------- */
struct slm2_mt_judge_args {
    const char *answers, *out;   /* files */
    const char *judge;           /* model that the endpoint is asked for, also in the records */
    struct slm2_http_opts http;  /* url: the endpoint's base, such as https://host/v1; /chat/completions is added, before its query if it has one */
    int max_tokens;              /* of a judgement; 0: 2048 */
    int n_parallel;              /* requests at once; 0: 4 */
};
struct slm2_mt_judge_done {
    int n_answer, n_kept, n_new; /* judgements asked for (two for each answer), there already, made now */
    int n_unrated;               /* of the new ones: without a rating, score -1 */
    int n_refused;               /* requests that the server will not take (400, 413, 422), or to which no try had a usable reply; the others were made all the same */
    int n_retry;
    char refusal[400];           /* the first of them */
};
/* Judges the answers that out lacks.  d needs prompts and references.  A refused key, a wrong address and a server that stays away end it at once with what was
 * judged kept.  SLM2_EFORMAT for an answer to no question of d, or without two turns; SLM2_EUSAGE when out holds a judgement of another text (its user_prompt). */
slm2_status slm2_mt_judge(const struct slm2_mt_data *d, const struct slm2_mt_judge_args *a, struct slm2_mt_judge_done *done, struct slm2_err *err);

/* First "[[7]]" or "[[7.5]]" of the text, else first "[7]" or "[7.5]", else -1. */
double slm2_mt_rating(const char *text, size_t n);
/* What the judge is shown; appends.  turn 0 or 1. */
slm2_status slm2_mt_user_prompt(const struct slm2_mt_data *d, const struct slm2_mt_question *q, int turn, const json_t *answers, const struct slm2_mt_prompt **prompt, struct slm2_buf *out, struct slm2_err *err);

/* ---- scores ----------------------------------------------------------------------------------------------------------- */
/* {"judge": name, "models": [{"model", "score", "first_turn", "second_turn", "ratings", "unrated", "categories": {NAME: {the same five}}}]}: means over the
 * ratings, -1 left out and counted as unrated; models in order of appearance, categories in the questions'.  judge NULL: the only one in the file, else SLM2_EUSAGE.
 * A judgement of no question of d, or given twice, is SLM2_EFORMAT. */
slm2_status slm2_mt_scores(const struct slm2_mt_data *d, const char *judgements, const char *judge, json_t **scores, struct slm2_err *err);
void slm2_mt_table(const json_t *scores, struct slm2_buf *out);
/* Puts the published scores among the tables of eval/reported.h (group mt_bench) into scores, where slm2_mt_table and `slm2 report` show them beside ours:
 * "published": {"title", "source", "rows": [{"model", "size", "score", "unchecked": true where nobody has read it in its source}]}; nothing when there are none. */
void slm2_mt_published(json_t *scores, const json_t *tables);
#endif
