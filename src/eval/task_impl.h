/* task_impl.h - what task.c (definitions and records) and prompt.c (requests) share. */
#ifndef SLM2_EVAL_TASK_IMPL_H
#define SLM2_EVAL_TASK_IMPL_H
#include "eval/task.h"

static inline const char *slm2_str_at(const struct slm2_conf_list *l, int i) { return ((char *const *)l->items)[i]; }

/* Every field that the requests of a record need is there and has the right kind. */
slm2_status slm2_task_check_record(const struct slm2_task *t, const json_t *item, struct slm2_err *err);
#endif
