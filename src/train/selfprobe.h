/* selfprobe.h - does the model know who it is, and has it lost anything else?  Measures before, during and after self-knowledge training.
 *
 * Each probe is a question that training never saw (drawn messages that hold its words are thrown out).  Compared: the mean log p a token of its right
 * answer with that of its best wrong one, both behind the normal assistant token.  Asked: the greedy answer, which must hold the fact.
 *
 * Metrics of a run, for slm2_tune_metric:
 *     probe_margin     mean over the probes of right minus best wrong, nats a token
 *     probe_right      share of probes whose right answer is likelier than all wrong ones
 *     probe_answers    share of probes whose greedy answer holds the fact
 *     valid_loss_text  nats a token of the held-out documents ("what pre-training learnt")
 *     valid_loss_chat  nats a token of the assistant's words in held-out conversations ("what fine-tuning learnt") */
#ifndef SLM2_TRAIN_SELFPROBE_H
#define SLM2_TRAIN_SELFPROBE_H
#include "data/convo_rows.h"
#include "tok/chat.h"
#include "train/selfcard.h"
#include "train/tune.h"

struct slm2_selfprobe {
    const struct slm2_self *self;  /* borrowed */
    enum slm2_chat_template tmpl;
    int answer_tokens;             /* longest greedy answer */
    const char *run;               /* folder of answers.jsonl, borrowed */
    struct slm2_convos chat;       /* held-out conversations, and their rows */
    struct slm2_convo_rows rows;
    int32_t *text;                 /* [n_text] ids of the held-out documents, EOS before each */
    size_t n_text;
    size_t *doc;                   /* [n_doc + 1] where each begins in text */
    int n_doc;
};
struct slm2_selfprobe_opts {
    struct slm2_conf_list texts;   /* of char *: JSONL files of {"text": ...} */
    struct slm2_conf_list chats;   /* of struct slm2_convo_set */
    char *data;                    /* a folder of `data build` whose held-out documents are read as well; "": none */
    int max_tokens;                /* of each source of that folder */
    int answer_tokens;
};
/* p is zeroed first; free it in any case. */
slm2_status slm2_selfprobe_open(struct slm2_selfprobe *p, const struct slm2_self *self, const struct slm2_tune *tune, const struct slm2_selfprobe_opts *o, struct slm2_err *err);
void slm2_selfprobe_free(struct slm2_selfprobe *p);
/* Measures the trainer's model as it is; figures to the ledger and the result.  The answers at the step go to RUN/answers.jsonl: {"step", "ask", "fact", "answer",
 * "right", "margin"} a line, those of other steps below it stay. */
slm2_status slm2_selfprobe_run(struct slm2_selfprobe *p, struct slm2_tune *tune, struct slm2_err *err);
#endif
