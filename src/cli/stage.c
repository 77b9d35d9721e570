/* stage.c - runs a fine-tuning stage for a command. */
#include "cli/stage.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/ranks.h"

/* Of the command line only; they lie in front of the stage's settings. */
struct extra { bool json, plan; };

/* The settings of the stage and the options above in one table; NULL: no memory. */
static struct slm2_opt *join(const struct slm2_opt *table, size_t at)
{
    static const struct slm2_opt extra[] = {
        {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct extra, json), .help = "the result as one JSON object"},
        {.name = "plan", .type = SLM2_OPT_BOOL, .offset = offsetof(struct extra, plan), .help = "read the data, print what they come to, and train nothing"}};
    size_t n = 0, n_extra = sizeof extra / sizeof extra[0];
    while (table[n].name) n++;
    struct slm2_opt *rows = calloc(n + n_extra + 1, sizeof *rows);
    if (!rows) return NULL;
    for (size_t i = 0; i < n; i++) {
        rows[i] = table[i];
        rows[i].offset += at;
    }
    for (size_t i = 0; i < n_extra; i++) rows[n + i] = extra[i];
    return rows;
}

static json_t *result_json(const struct slm2_stage_result *r)
{
    json_t *figures = json_object();
    for (int i = 0; figures && i < r->n_figure; i++) json_object_set_new(figures, r->figure[i].name, slm2_json_real(r->figure[i].value, NULL));
    return json_pack("{s:o, s:I, s:I, s:o, s:f, s:s}", "figures", figures, "updates", (json_int_t)r->n_step, "new_updates", (json_int_t)r->n_new, "loss",
                     slm2_json_real(r->loss, NULL), "wall_s", r->wall_s, "model", r->final_dir);
}

static int train(slm2_stage_fn *run, const struct slm2_stage_args *args, bool json)
{
    struct slm2_err err;
    struct slm2_stage_result r;
    if (run(args, &r, &err) != SLM2_OK) return slm2_cli_fail(&err);
    if (json) return slm2_cli_json(result_json(&r));
    for (int i = 0; i < r.n_figure; i++) printf("%-32s %.6g\n", r.figure[i].name, r.figure[i].value);
    if (r.n_new) {
        printf("%-32s %.6g\n%-32s %lld updates in %.1f s", "training loss, last update", r.loss, "trained", (long long)r.n_new, r.wall_s);
        if (r.n_new < r.n_step) printf(", %lld in all", (long long)r.n_step);
        putchar('\n');
    } else {
        char adapter[SLM2_PATH_MAX];
        bool is_adapter = slm2_path_join(adapter, sizeof adapter, r.final_dir, SLM2_LORA_CONFIG, NULL) == SLM2_OK && slm2_path_exists(adapter);
        printf("%-32s all %lld updates were made before; to train on, begin another --run with --%s %s\n", "complete", (long long)r.n_step, is_adapter ? "lora.adapter" : "model", r.final_dir);
    }
    printf("%-32s %s\n", "model", r.final_dir);
    return 0;
}

static int show_plan(slm2_stage_plan_fn *plan, const struct slm2_stage_args *args, bool as_json)
{
    struct slm2_err err;
    struct slm2_buf text = {0};
    json_t *json = NULL;
    int rc = plan(args, &text, &json, &err) != SLM2_OK ? slm2_cli_fail(&err) : 0;
    if (rc == 0 && as_json) rc = slm2_cli_json(json_incref(json));
    else if (rc == 0) fputs(text.v, stdout);
    json_decref(json);
    slm2_buf_free(&text);
    return rc;
}

int slm2_cli_stage(const struct slm2_cli_doc *doc, const struct slm2_opt *table, size_t size, slm2_stage_fn *run, slm2_stage_plan_fn *plan, int argc, char **argv)
{
    const size_t at = 64; /* behind the extra ones, aligned for any type */
    struct slm2_err err;
    struct slm2_opt *rows = join(table, at);
    char *all = calloc(1, at + size);
    if (!rows || !all) {
        free(rows);
        free(all);
        return slm2_cli_fail(&(struct slm2_err){SLM2_ENOMEM, "no memory for settings"});
    }
    const char *pos[1];
    int n_pos, rc = slm2_cli_parse(doc, rows, all, argc, argv, pos, 1, &n_pos);
    if (rc < 0) {
        struct extra extra;
        memcpy(&extra, all, sizeof extra);
        struct slm2_stage_args args = {.settings = all + at, .isa = slm2_cli_isa(), .stop = slm2_cli_catch_stop()};
        if (slm2_cli_alone(argv[0], &err) != SLM2_OK) rc = slm2_cli_fail(&err);
        else rc = plan && extra.plan ? show_plan(plan, &args, extra.json) : train(run, &args, extra.json);
    }
    slm2_conf_free(rows, all);
    free(rows);
    free(all);
    return rc;
}
