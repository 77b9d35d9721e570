/* suite.c - finds definitions and resolves groups; opens no data. */
#include "eval/suite.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { MAX_DEPTH = 8, PATH = 4096 };

static const char *const averages[] = {"mean", "items", NULL};

struct member { char *task, *metric; int n_shot; };
struct group { char *name, *title; int average, rules; struct slm2_conf_list tasks; };

static const struct slm2_opt member_settings[] = {
    {.name = "task", .type = SLM2_OPT_STR, .offset = offsetof(struct member, task), .def = "!", .help = "a task, a task's parts, or another group"},
    {.name = "metric", .type = SLM2_OPT_STR, .offset = offsetof(struct member, metric), .help = "the figure that counts; default: the task's first"},
    {.name = "n_shot", .type = SLM2_OPT_INT, .offset = offsetof(struct member, n_shot), .lo = -1, .hi = 256, .def = "-1", .help = "examples; -1: as the task says"},
    {.name = NULL},
};
static const char *const rules_or_none[] = {"v0.4", "v0.3", "task", NULL}; /* slm2_task_rules, and none */
static const struct slm2_opt group_settings[] = {
    {.name = "name", .type = SLM2_OPT_STR, .offset = offsetof(struct group, name), .def = "!", .help = "name in the results"},
    {.name = "title", .type = SLM2_OPT_STR, .offset = offsetof(struct group, title), .help = "what it is, in a line"},
    {.name = "average", .type = SLM2_OPT_ENUM, .offset = offsetof(struct group, average), .def = "mean", .help = "mean: of the members' figures; items: of all items below", .choices = averages},
    {.name = "rules", .type = SLM2_OPT_ENUM, .offset = offsetof(struct group, rules), .def = "task", .help = "how examples are drawn: v0.4, v0.3, or as each task says", .choices = rules_or_none},
    {.name = "tasks", .type = SLM2_OPT_LIST, .offset = offsetof(struct group, tasks), .def = "!", .help = "its members", .sub = member_settings, .sub_size = sizeof(struct member)},
    {.name = NULL},
};

struct wish { int n_shot, rules, depth; }; /* what is said from outside about the tasks to find */
struct adding { struct slm2_suite *s; const char *folder; int n_shot; struct slm2_suite_group *to; const char *metric; }; /* to: whose members they become, or NULL */

static slm2_status add_name(struct adding *a, const char *name, struct wish w, struct slm2_err *err);

static slm2_status no_memory(struct slm2_err *err) { return slm2_fail(err, SLM2_ENOMEM, "no memory for the list of tasks"); }

/* ---- tasks ------------------------------------------------------------------------------------------------------------------ */
static slm2_status add_member(struct adding *a, bool is_group, int index, struct slm2_err *err)
{
    if (!a->to) return SLM2_OK;
    struct slm2_suite_member *m = realloc(a->to->member, sizeof *m * ((size_t)a->to->n + 1));
    if (!m) return no_memory(err);
    a->to->member = m;
    m[a->to->n] = (struct slm2_suite_member){is_group, index, strdup(is_group ? "" : a->metric)};
    return m[a->to->n++].metric ? SLM2_OK : no_memory(err);
}

/* A figure that the task does not give would be missed only after the run. */
static slm2_status check_metric(const struct adding *a, const struct slm2_task *t, struct slm2_err *err)
{
    if (!a->to || !*a->metric) return SLM2_OK;
    size_t n = strcspn(a->metric, ",");
    bool known = false;
    for (int i = 0; i < t->metrics.n; i++) {
        const char *m = ((char **)t->metrics.items)[i];
        known = known || (strlen(m) == n && strncmp(m, a->metric, n) == 0);
    }
    return known ? SLM2_OK : slm2_fail(err, SLM2_EFORMAT, "group %s: task %s has no metric \"%s\"", a->to->name, t->name, a->metric);
}

static slm2_status add_task(struct adding *a, const char *path, const char *part, struct wish w, struct slm2_err *err)
{
    struct slm2_suite *s = a->s;
    struct slm2_task t;
    SLM2_TRY(slm2_task_define(&t, path, part, err));
    if (a->n_shot >= 0) w.n_shot = a->n_shot;
    slm2_status st = check_metric(a, &t, err);
    int at = 0;
    while (at < s->n_task && strcmp(s->task[at].name, t.name) != 0) at++;
    if (st == SLM2_OK && at < s->n_task) {
        const struct slm2_suite_task *old = &s->task[at];
        if (strcmp(old->path, path) != 0) st = slm2_fail(err, SLM2_EUSAGE, "%s: another task, %s, has the name %s", path, old->path, t.name);
        else if (old->n_shot != w.n_shot || old->rules != w.rules) st = slm2_fail(err, SLM2_EUSAGE, "task %s is wanted in two ways (examples or rules differ); run them one after the other", t.name);
    } else if (st == SLM2_OK) {
        struct slm2_suite_task *v = realloc(s->task, sizeof *v * ((size_t)s->n_task + 1));
        if (v) {
            s->task = v;
            v[s->n_task] = (struct slm2_suite_task){.path = strdup(path), .part = part ? strdup(part) : NULL, .name = strdup(t.name), .n_shot = w.n_shot, .rules = w.rules};
            s->n_task++;
        }
        if (!v || !v[at].path || !v[at].name || (part && !v[at].part)) st = no_memory(err);
    }
    slm2_task_free(&t);
    return st == SLM2_OK ? add_member(a, false, at, err) : st;
}

/* All parts of a definition, or the one that is called name. */
static slm2_status add_parts(struct adding *a, const char *path, const char *name, struct wish w, bool *found, struct slm2_err *err)
{
    struct slm2_task t;
    SLM2_TRY(slm2_task_define(&t, path, NULL, err));
    slm2_status st = SLM2_OK;
    if (t.each.n == 0 && (!name || strcmp(t.name, name) == 0)) {
        *found = true;
        st = add_task(a, path, NULL, w, err);
    }
    const char *mark = strstr(t.name, "{each}");
    for (int i = 0; i < t.each.n && mark && st == SLM2_OK; i++) {
        const char *part = ((char **)t.each.items)[i];
        char called[200];
        snprintf(called, sizeof called, "%.*s%s%s", (int)(mark - t.name), t.name, part, mark + strlen("{each}"));
        if (name && strcmp(called, name) != 0) continue;
        *found = true;
        st = add_task(a, path, part, w, err);
    }
    slm2_task_free(&t);
    return st;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static int is_yaml(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 4 && e->d_name[0] != '.' && strcmp(e->d_name + n - 4, ".yml") == 0;
}

/* All tasks of a folder, or the one of that name in whatever file. */
static slm2_status add_folder(struct adding *a, const char *folder, const char *name, struct wish w, bool *found, struct slm2_err *err)
{
    struct dirent **list;
    int n = scandir(folder, &list, is_yaml, by_name);
    if (n < 0) return name ? SLM2_OK : slm2_fail_errno(err, "%s", folder);
    slm2_status st = n || name ? SLM2_OK : slm2_fail(err, SLM2_EUSAGE, "%s: no task (*.yml) in this folder", folder);
    for (int i = 0; i < n; i++) {
        char path[PATH];
        if (st == SLM2_OK && !(name && *found)) st = slm2_path_join(path, sizeof path, folder, list[i]->d_name, err);
        if (st == SLM2_OK && !(name && *found)) st = add_parts(a, path, name, w, found, err);
        free(list[i]);
    }
    free(list);
    return st;
}

/* ---- groups ------------------------------------------------------------------------------------------------------------------- */
static void group_free(struct slm2_suite_group *g)
{
    for (int i = 0; i < g->n; i++) free(g->member[i].metric);
    free(g->member);
    free(g->name);
    free(g->title);
}

static slm2_status keep_group(struct adding *a, struct slm2_suite_group *g, struct slm2_err *err)
{
    struct slm2_suite *s = a->s;
    struct slm2_suite_group *v = realloc(s->group, sizeof *v * ((size_t)s->n_group + 1));
    if (!v) return no_memory(err);
    s->group = v;
    v[s->n_group++] = *g;
    *g = (struct slm2_suite_group){0};
    return add_member(a, true, s->n_group - 1, err);
}

static slm2_status add_group(struct adding *a, const char *path, struct wish w, struct slm2_err *err)
{
    struct group conf;
    struct slm2_suite_group g = {0};
    slm2_conf_init(group_settings, &conf);
    slm2_status st = slm2_conf_yaml(group_settings, &conf, path, err);
    if (st == SLM2_OK && (st = slm2_conf_required(group_settings, &conf, err)) != SLM2_OK) slm2_wrap(err, st, "%s", path);
    if (st == SLM2_OK && ++w.depth > MAX_DEPTH) st = slm2_fail(err, SLM2_EFORMAT, "%s: groups within groups, more than %d deep; does one contain itself?", path, MAX_DEPTH);
    if (st != SLM2_OK) goto done;
    for (int i = 0; i < a->s->n_group; i++) {
        if (strcmp(a->s->group[i].name, conf.name) != 0) continue;
        st = add_member(a, true, i, err);
        goto done;
    }
    g = (struct slm2_suite_group){.name = strdup(conf.name), .title = strdup(conf.title), .average = conf.average};
    if (!g.name || !g.title) st = no_memory(err);
    for (int i = 0; i < conf.tasks.n && st == SLM2_OK; i++) {
        const struct member *m = &((const struct member *)conf.tasks.items)[i];
        struct adding below = {a->s, a->folder, a->n_shot, &g, m->metric};
        struct wish v = {m->n_shot >= 0 ? m->n_shot : w.n_shot, w.rules >= 0 ? w.rules : conf.rules == 2 ? -1 : conf.rules, w.depth};
        st = add_name(&below, m->task, v, err);
    }
    if (st != SLM2_OK) slm2_wrap(err, st, "%s", path);
    else st = keep_group(a, &g, err);
done:
    group_free(&g);
    slm2_conf_free(group_settings, &conf);
    return st;
}

/* A group's file has `tasks:` at the beginning of a line, a task's never. */
static slm2_status is_group_file(const char *path, bool *yes, struct slm2_err *err)
{
    struct slm2_buf text = {0};
    slm2_status st = slm2_file_read(&text, path, 1 << 20, err);
    *yes = st == SLM2_OK && text.v && (strncmp(text.v, "tasks:", 6) == 0 || strstr(text.v, "\ntasks:"));
    slm2_buf_free(&text);
    return st;
}

/* "; did you mean \"x\"?" of the tasks' and groups' files of a folder, or nothing when no name is near. */
static const char *hint(const char *folder, const char *name, char *out, size_t cap)
{
    char nearest[256] = "", here[256], dir[PATH];
    int best = (int)strlen(name) / 3 + 1;
    for (int groups = 0; groups < 2; groups++) {
        struct dirent **list;
        int n = snprintf(dir, sizeof dir, groups ? "%s/groups" : "%s", folder) < PATH ? scandir(dir, &list, is_yaml, by_name) : -1;
        for (int i = 0; i < n; i++) {
            snprintf(here, sizeof here, "%.*s", (int)strlen(list[i]->d_name) - 4, list[i]->d_name);
            int d = slm2_conf_distance(name, here);
            if (d < best) {
                best = d;
                memcpy(nearest, here, sizeof nearest);
            }
            free(list[i]);
        }
        if (n >= 0) free(list);
    }
    out[0] = 0;
    if (*nearest) snprintf(out, cap, "; did you mean \"%s\"?", nearest);
    return out;
}

/* ---- names -------------------------------------------------------------------------------------------------------------------- */
static slm2_status add_name(struct adding *a, const char *name, struct wish w, struct slm2_err *err)
{
    char path[PATH], near[300];
    bool found = false, group = false;
    if (snprintf(path, sizeof path, "%s/groups/%s.yml", a->folder, name) < PATH && slm2_path_exists(path)) return add_group(a, path, w, err);
    if (snprintf(path, sizeof path, "%s/%s.yml", a->folder, name) < PATH && slm2_path_exists(path)) return add_parts(a, path, NULL, w, &found, err);
    if (slm2_path_is_dir(name)) return add_folder(a, name, NULL, w, &found, err);
    if (strchr(name, '/') || strchr(name, '.')) {
        SLM2_TRY(is_group_file(name, &group, err));
        return group ? add_group(a, name, w, err) : add_parts(a, name, NULL, w, &found, err);
    }
    SLM2_TRY(add_folder(a, a->folder, name, w, &found, err));
    if (found) return SLM2_OK;
    return slm2_fail(err, SLM2_EUSAGE, "\"%s\" is no group, task or part of a task in %s, and no file%s (`slm2 eval --list` names all)", name, a->folder, hint(a->folder, name, near, sizeof near));
}

slm2_status slm2_suite_open(struct slm2_suite *s, const char *const *names, int n, const char *folder, int n_shot, struct slm2_err *err)
{
    *s = (struct slm2_suite){0};
    struct adding a = {s, folder ? folder : "configs/tasks", n_shot, NULL, ""};
    if (n < 1) return slm2_fail(err, SLM2_EUSAGE, "no task is named");
    for (int i = 0; i < n; i++) SLM2_TRY(add_name(&a, names[i], (struct wish){-1, -1, 0}, err));
    return SLM2_OK;
}

void slm2_suite_free(struct slm2_suite *s)
{
    for (int i = 0; i < s->n_task; i++) {
        free(s->task[i].path);
        free(s->task[i].part);
        free(s->task[i].name);
    }
    for (int i = 0; i < s->n_group; i++) group_free(&s->group[i]);
    free(s->task);
    free(s->group);
    *s = (struct slm2_suite){0};
}
