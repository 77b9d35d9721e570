/* suite.h - from the names of `--tasks` to task definitions: tasks, their parts, folders, and groups with their averages.
 *
 * A name is, in this order: a group (FOLDER/groups/NAME.yml); a task's file (FOLDER/NAME.yml; one with `each` gives all its parts); a part of
 * a task (mmlu_anatomy); a path of a YAML file of either kind, or of a folder of tasks.  FOLDER is configs/tasks unless told otherwise.
 * A group's file says, in the settings of suite.c:
 *
 *     name: leaderboard
 *     average: mean          # of its members' figures; items: of all items of all tasks below (each task weighs as many as it has)
 *     rules: v0.3            # of all tasks below that say nothing themselves here
 *     tasks:
 *       - {task: arc_challenge, metric: acc_norm, n_shot: 25}
 *       - {task: leaderboard_mmlu}                                  # another group: its average is the figure */
#ifndef SLM2_EVAL_SUITE_H
#define SLM2_EVAL_SUITE_H
#include "eval/task.h"

struct slm2_suite_task { /* one run of slm2_task_open */
    char *path, *part;   /* of the definition; part: NULL when it has none */
    char *name;
    int n_shot, rules;   /* as struct slm2_task_opts wants them; -1: the task's own */
};
struct slm2_suite_member {
    bool is_group;
    int index;           /* of suite.group or suite.task; groups stand behind their member groups */
    char *metric;        /* of a task; "": its first.  Of a group "" */
};
enum slm2_average { SLM2_AVERAGE_MEAN, SLM2_AVERAGE_ITEMS };
struct slm2_suite_group {
    char *name, *title;
    int average;         /* enum slm2_average */
    struct slm2_suite_member *member;
    int n;
};
struct slm2_suite {
    struct slm2_suite_task *task;   /* [n_task] each once, in the order in which they are named */
    struct slm2_suite_group *group; /* [n_group] */
    int n_task, n_group;
};
/* SLM2_EUSAGE for a name that is nothing, and when one task is wanted twice with different numbers of examples or rules.
 * n_shot >= 0 overrides all.  s is freed with slm2_suite_free whatever the status. */
slm2_status slm2_suite_open(struct slm2_suite *s, const char *const *names, int n, const char *folder, int n_shot, struct slm2_err *err);
void slm2_suite_free(struct slm2_suite *s);
#endif
