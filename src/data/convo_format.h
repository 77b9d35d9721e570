/* convo_format.h - a record of a published fine-tuning set, in the shape that the set has on its hub, becomes the messages of a conversation.
 *
 *     messages                     {"messages": [{"role", "content"}]}: one's own data; any roles in any order
 *     ultrachat_200k               the same; HuggingFaceH4/ultrachat_200k
 *     wizardlm_evol_instruct_v2    {"conversations": [{"from": human|gpt, "value"}]}; WizardLM/WizardLM_evol_instruct_V2_196k
 *     slimorca                     the same with "weight": 0, 1 or null at each turn; Open-Orca/SlimOrca
 *     sharegpt_openchat            {"items" or "conversations": [...], "system"}, both spellings of turns; openchat/openchat_sharegpt4_dataset
 *     capybara                     {"conversation": [{"input", "output"}]}; LDJnr/Capybara
 *     deita_10k                    as wizardlm_evol_instruct_v2; hkust-nlp/deita-10k-v0
 *     metamathqa                   {"query", "response"}; meta-math/MetaMathQA
 *
 * Other keys are passed over.  A record of a published set is a usable conversation when a system message, if there is one, comes first, then
 * user and assistant take turns, user first, no text is blank, and the assistant says something; the last question may be unanswered. */
#ifndef SLM2_DATA_CONVO_FORMAT_H
#define SLM2_DATA_CONVO_FORMAT_H
#include "tok/chat.h"

enum slm2_convo_format {
    SLM2_CONVO_MESSAGES,
    SLM2_CONVO_ULTRACHAT,
    SLM2_CONVO_WIZARDLM,
    SLM2_CONVO_SLIMORCA,
    SLM2_CONVO_SHAREGPT,
    SLM2_CONVO_CAPYBARA,
    SLM2_CONVO_DEITA,
    SLM2_CONVO_METAMATH,
    SLM2_CONVO_N_FORMAT
};
extern const char *const slm2_convo_formats[]; /* their names, NULL-terminated: choices of a setting */

struct slm2_convo_msgs {
    struct slm2_msg *v; /* [n], strings borrowed from the record */
    uint8_t *learn;     /* [n] 1: this message is learnt; the assistant's, unless the record gives it another weight */
    int n, cap;
    int n_messages;     /* without system messages */
    int n_exchanges;    /* a user's message with its answer, or without one at the end */
};
/* m is filled anew (start with {0}, its memory is kept for the next call).  An empty system message counts as none; with empty_system a
 * conversation without one gets an empty one in front.  SLM2_EFORMAT: "what: conversations[3].value: is blank". */
slm2_status slm2_convo_from_json(struct slm2_convo_msgs *m, enum slm2_convo_format format, bool empty_system, const json_t *record, const char *what, struct slm2_err *err);
void slm2_convo_msgs_free(struct slm2_convo_msgs *m);
#endif
