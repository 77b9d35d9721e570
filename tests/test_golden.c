/* test_golden.c [DIR] - every number of tests/data/golden (or a folder of the same form) against every backend and instruction set
 * (with SLM2_ISA: only the cpu backend on that one).
 * Shapes and ids are read from the files; what a folder lacks is reported as skipped.  VERBOSE=1 prints each check.  The
 * tolerances are those of the golden data's own description: ten times what a plain fp32 evaluation reaches, three times for bf16. */
#include <dirent.h>

#include "golden.h"
#include "base/num.h"
#include "model/acts.h"
#include "train/dpo_loss.h"
#include "train/schedule.h"
#include "train/step.h"

static bool mixed(const struct golden *g) { return g->precision == SLM2_BF16_MIXED; }
static double tol(const struct golden *g, double fp32, double bf16) { return mixed(g) ? bf16 : fp32; }
static enum slm2_dtype act_type(const struct golden *g) { return mixed(g) ? SLM2_BF16 : SLM2_F32; }

struct session { /* a trainable model with everything to run it */
    struct slm2_model *m;
    struct slm2_acts *a;
    struct slm2_batch b;
};

static struct session session_open(struct golden *g, const char *model, int max_tok, enum slm2_plan plan)
{
    struct slm2_err err;
    struct session s = {0};
    must(slm2_model_trainable(&s.m, golden_path(g, model), NULL, 0, g->precision, &err), &err);
    must(slm2_acts_new(&s.a, s.m, &g->ctx, plan, act_type(g), max_tok, 37, &err), &err); /* 37: chunks of the head that divide nothing */
    must(slm2_batch_init(&s.b, max_tok, max_tok, &err), &err);
    return s;
}

static void session_close(struct session *s)
{
    slm2_acts_free(s->a);
    slm2_model_free(s->m);
    slm2_batch_free(&s->b);
}

/* False, and said once, when the folder lacks one of the files; a model is a folder with a config.json. */
static bool has_all(struct golden *g, const char *const *names)
{
    for (; *names; names++) {
        if (golden_has(g, *names)) continue;
        golden_skip(g, *names);
        return false;
    }
    return true;
}

static bool has_model(struct golden *g, const char *model)
{
    char file[300];
    snprintf(file, sizeof file, "%.250s/config.json", model ? model : "?");
    return has_all(g, (const char *const[]){file, NULL});
}

static int n_elems(const struct slm2_tensors *ts, const char *key)
{
    const struct slm2_tensor *t = slm2_tensors_find(ts, key);
    return t ? (int)slm2_tensor_n_elems(t) : 0;
}

/* ---- forward ----------------------------------------------------------------------------------------------------------- */

static void test_forward(struct golden *g, const char *name)
{
    char file[512], what[300];
    struct slm2_err err;
    snprintf(file, sizeof file, "forward/%s.safetensors", name);
    if (!has_model(g, name)) return;
    struct slm2_tensors ts = golden_tensors(g, file);
    int n_tok = 0;
    for (int i = 0; i < ts.n; i++) n_tok += strstr(ts.v[i].name, ".ids") ? n_elems(&ts, ts.v[i].name) : 0;
    struct session s = session_open(g, name, n_tok, SLM2_INFER);
    int V = s.m->cfg.vocab_size, n_seq = 0, n_top = 0, n_row = 0;
    for (;; n_seq++) { /* all sequences as one ragged batch */
        char key[32];
        size_t n = 0;
        snprintf(key, sizeof key, "seq%d.ids", n_seq);
        int32_t *ids = golden_copy(&ts, key, &n);
        if (!ids) break;
        must(slm2_batch_add(&s.b, ids, NULL, NULL, (int)n, &err), &err);
        free(ids);
    }
    float *logits = malloc(sizeof(float) * (size_t)s.b.n_tok * (size_t)V);
    slm2_model_forward(s.m, s.a, &s.b, NULL, NULL);
    slm2_model_logits(s.m, s.a, 0, s.b.n_tok, logits);
    for (int i = 0; i < n_seq; i++) {
        char key[32];
        size_t n = 0;
        snprintf(key, sizeof key, "seq%d.logits", i);
        float *want = golden_copy(&ts, key, &n), *got = logits + (size_t)s.b.cu_seqlens[i] * (size_t)V;
        snprintf(what, sizeof what, "forward %s seq%d: logits, max abs", name, i);
        golden_within(g, what, max_abs(got, want, n), tol(g, 5e-5, 0.3));
        snprintf(what, sizeof what, "forward %s seq%d: logits, relL2", name, i);
        golden_within(g, what, rel_l2(got, want, n), tol(g, 1e-5, 5e-2));
        for (size_t r = 0; r < n / (size_t)V; r++, n_row++) {
            int best = 0, ref = 0;
            for (int v = 1; v < V; v++) {
                if (got[r * (size_t)V + (size_t)v] > got[r * (size_t)V + (size_t)best]) best = v;
                if (want[r * (size_t)V + (size_t)v] > want[r * (size_t)V + (size_t)ref]) ref = v;
            }
            n_top += best == ref;
        }
        free(want);
    }
    snprintf(what, sizeof what, "forward %s: top-1 disagreement, percent", name);
    golden_within(g, what, 100.0 - 100.0 * n_top / n_row, tol(g, 0, 6));
    free(logits);
    session_close(&s);
    slm2_tensors_free(&ts);
}

static void compare_slot(struct golden *g, const struct slm2_tensors *ts, const char *model, const char *key, const struct slm2_mat *m)
{
    char what[300];
    size_t n = 0;
    float *want = golden_copy(ts, key, &n);
    if (!want) return;
    snprintf(what, sizeof what, "trace %s %s: max abs", model, key);
    if (n != (size_t)m->n_row * (size_t)m->n_col) golden_within(g, what, INFINITY, 0);
    else golden_within(g, what, max_abs(m->data, want, n), 5e-5);
    free(want);
}

/* Every slot of the layer program after one forward, by name. */
static void test_trace(struct golden *g, const char *name)
{
    char file[512], key[64];
    struct slm2_err err;
    size_t n = 0;
    snprintf(file, sizeof file, "forward/%s.trace.safetensors", name);
    if (mixed(g)) return;
    if (!golden_has(g, file) || !has_model(g, name)) return;
    struct slm2_tensors ts = golden_tensors(g, file);
    struct session s = session_open(g, name, n_elems(&ts, "ids"), SLM2_KEEP_ALL);
    int32_t *ids = golden_copy(&ts, "ids", &n);
    must(slm2_batch_add(&s.b, ids, NULL, NULL, (int)n, &err), &err);
    slm2_model_forward(s.m, s.a, &s.b, NULL, NULL);
    compare_slot(g, &ts, name, "embed", &s.a->x[0]);
    for (int l = 0; l < s.m->cfg.n_layer; l++) {
        struct slm2_layer_acts *a = &s.a->layer[l];
        const struct { const char *key; const struct slm2_mat *m; } slots[] = {{"ln1", &a->ln1}, {"q_rope", &a->q}, {"k_rope", &a->k}, {"v", &a->v}, {"attn_ctx", &a->att}, {"out", &s.a->x[l + 1]}};
        for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
            snprintf(key, sizeof key, "layers.%d.%s", l, slots[i].key);
            compare_slot(g, &ts, name, key, slots[i].m);
        }
        snprintf(key, sizeof key, "layers.%d.ln2", l);
        if (!s.m->cfg.parallel_residual) compare_slot(g, &ts, name, key, &a->ln2);
    }
    compare_slot(g, &ts, name, "final_norm", &s.a->xf);
    free(ids);
    session_close(&s);
    slm2_tensors_free(&ts);
}

static void test_all_forward(struct golden *g)
{
    DIR *d = opendir(golden_path(g, "forward"));
    if (!d) {
        golden_skip(g, "forward/");
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        char name[256];
        snprintf(name, sizeof name, "%s", e->d_name);
        char *dot = strrchr(name, '.');
        if (!dot || strcmp(dot, ".safetensors") || strstr(name, ".trace.")) continue;
        *dot = '\0';
        test_forward(g, name);
        test_trace(g, name);
    }
    closedir(d);
}

/* ---- gradients --------------------------------------------------------------------------------------------------------- */

/* A k bias outside the rotated dims adds the same to all scores of a query: its gradient is zero but for rounding. */
static bool is_noise(const struct slm2_config *cfg, const char *name, size_t i)
{
    return strstr(name, "k_proj.bias") && (int)(i % (size_t)cfg->head_dim) >= cfg->n_rot;
}

/* Compares tensors (from: 1 master, 2 grad of m; or flat) with a file, per tensor and together; base (NULL: zero) is subtracted from both. */
static void compare_params(struct golden *g, const struct slm2_model *m, int from, const float *flat, const float *base, const struct slm2_tensors *ref, const char *what, double tol_each, double tol_all, double tol_999, bool median)
{
    struct slm2_err err;
    struct slm2_tensor *v, *base_v = NULL;
    int n, n_base, n_each = 0;
    char line[400], worst_name[128] = "";
    double all_d = 0, all_r = 0, worst = 0, noise = 0;
    size_t n_elem = 0, n_out = 0;
    must(slm2_params_hf_views(&m->params, from, flat, &v, &n, &err), &err);
    if (base) must(slm2_params_hf_views(&m->params, 0, base, &base_v, &n_base, &err), &err);
    double *each = malloc(sizeof(double) * (size_t)n), *size = malloc(sizeof(double) * (size_t)n);
    int *which = malloc(sizeof(int) * (size_t)n);
    for (int i = 0; i < n; i++) {
        size_t k;
        double d2 = 0, r2 = 0;
        float *want = golden_copy(ref, v[i].name, &k);
        const float *got = v[i].data, *start = base ? base_v[i].data : NULL;
        if (!want || k != slm2_tensor_n_elems(&v[i])) {
            snprintf(line, sizeof line, "%s: %s is missing or has another shape", what, v[i].name);
            golden_within(g, line, INFINITY, 0);
            free(want);
            continue;
        }
        for (size_t e = 0; e < k; e++) {
            double d = (double)got[e] - (double)want[e], r = (double)want[e] - (start ? (double)start[e] : 0);
            if (is_noise(&m->cfg, v[i].name, e)) {
                noise += (double)got[e] * (double)got[e];
                continue;
            }
            d2 += d * d;
            r2 += r * r;
            n_elem++;
            n_out += !(fabs(d) <= tol_999);
        }
        all_d += d2;
        all_r += r2;
        each[n_each] = d2;
        size[n_each] = r2;
        which[n_each++] = i;
        free(want);
    }
    for (int i = 0; i < n_each; i++) {
        double least = mixed(g) ? 1e-4 * all_r : 0; /* in bf16 the noise of the whole lies on a tensor of less than a hundredth of it, too */
        each[i] = size[i] > 0 ? sqrt(each[i] / fmax(size[i], least)) : sqrt(each[i]);
        if (!(each[i] <= worst)) worst = each[i], snprintf(worst_name, sizeof worst_name, "%s", v[which[i]].name);
    }
    free(size);
    free(which);
    if (median) {
        for (int i = 1; i < n_each; i++)
            for (int j = i; j > 0 && each[j] < each[j - 1]; j--) {
                double t = each[j];
                each[j] = each[j - 1];
                each[j - 1] = t;
            }
        snprintf(line, sizeof line, "%s: relL2, median tensor", what);
        golden_within(g, line, n_each ? each[n_each / 2] : (double)INFINITY, tol_each);
    } else {
        snprintf(line, sizeof line, "%s: relL2, worst tensor (%s)", what, worst_name);
        golden_within(g, line, worst, tol_each);
    }
    if (tol_all > 0) {
        snprintf(line, sizeof line, "%s: relL2, all together", what);
        golden_within(g, line, sqrt(all_d / all_r), tol_all);
    }
    if (tol_999 > 0) {
        snprintf(line, sizeof line, "%s: percent of entries off by over %.1e", what, tol_999);
        golden_within(g, line, 100.0 * (double)n_out / (double)n_elem, 0.1);
    }
    if (from == 2 && !flat && m->cfg.qkv_bias) {
        snprintf(line, sizeof line, "%s: gradient of unrotated k bias / norm", what);
        golden_within(g, line, sqrt(noise) / sqrt(all_r), tol(g, 1e-7, 5e-4));
    }
    free(each);
    slm2_hf_views_free(v, n);
    if (base) slm2_hf_views_free(base_v, n_base);
}

static double grad_norm(struct golden *g, const struct slm2_model *m) { return sqrt(slm2_sum_sq(&g->ctx, slm2_model_grad(m), m->params.flat_elems)); }

static void zero_grad(struct golden *g, const struct slm2_model *m) { g->ctx.ops->zero(&g->ctx, slm2_model_grad(m), sizeof(float) * m->params.flat_elems); }

/* Sequences start where position_ids are 0. */
static void add_rows(struct slm2_batch *b, const int32_t *inputs, const int32_t *targets, const int32_t *position, const int32_t *mask, int rows, int T)
{
    struct slm2_err err;
    int count = 0;
    uint8_t *start = malloc((size_t)T);
    float *w = malloc(sizeof(float) * (size_t)T);
    int32_t *t = malloc(sizeof(int32_t) * (size_t)T);
    slm2_batch_clear(b);
    for (int i = 0; i < rows * T; i++) count += !mask || mask[i];
    for (int r = 0; r < rows; r++) {
        for (int i = 0; i < T; i++) {
            int at = r * T + i;
            start[i] = position[at] == 0;
            w[i] = !mask || mask[at] ? 1.0f / (float)count : 0;
            t[i] = targets[at];
        }
        must(slm2_batch_add_packed(b, inputs + r * T, t, w, start, T, &err), &err);
    }
    free(start);
    free(w);
    free(t);
}

static double mean_loss(const struct slm2_batch *b, const float *lp)
{
    double loss = 0;
    for (int i = 0; i < b->n_tok; i++) loss -= (double)b->weight[i] * (double)lp[i];
    return loss;
}

static void test_train(struct golden *g, const char *model, enum slm2_plan plan)
{
    char file[300], what[300];
    snprintf(file, sizeof file, "train/%s.nll.safetensors", model);
    if (!has_all(g, (const char *const[]){file, "train/batch.safetensors", "train/train.json", NULL}) || !has_model(g, model)) return;
    struct slm2_tensors batch = golden_tensors(g, "train/batch.safetensors"), nll_ts = golden_tensors(g, file);
    json_t *j = golden_json(g, "train/train.json");
    int B = (int)num(j, "batch"), T = (int)num(j, "seq_len");
    size_t n = 0;
    int32_t *inputs = golden_copy(&batch, "inputs", &n), *targets = golden_copy(&batch, "targets", NULL), *position = golden_copy(&batch, "position_ids", NULL), *mask = golden_copy(&batch, "loss_mask", NULL);
    int32_t *ids = golden_copy(&batch, "ids", NULL);
    if (!inputs) { /* inputs and targets may be given as ids alone */
        n = (size_t)B * (size_t)T;
        inputs = malloc(4 * n);
        targets = malloc(4 * n);
        for (int r = 0; r < B; r++)
            for (int i = 0; i < T; i++) inputs[r * T + i] = ids[r * (T + 1) + i], targets[r * T + i] = ids[r * (T + 1) + i + 1];
    }
    float *nll = golden_copy(&nll_ts, "nll", NULL), *lp = malloc(sizeof(float) * n);
    struct session s = session_open(g, model, (int)n, plan);
    for (int variant = 0; variant < 2; variant++) {
        const char *name = variant ? "masked" : "all";
        const json_t *ref = json_object_get(json_object_get(json_object_get(j, "models"), model), name);
        add_rows(&s.b, inputs, targets, position, variant ? mask : NULL, B, T);
        golden_equal(g, "packed rows give the position ids", memcmp(s.b.position, position, 4 * n), 0);
        zero_grad(g, s.m);
        slm2_model_forward(s.m, s.a, &s.b, NULL, NULL);
        slm2_model_backward(s.m, s.a, &s.b, lp, NULL);
        for (size_t i = 0; i < n; i++) lp[i] = -lp[i];
        snprintf(what, sizeof what, "train %s %s: nll per token, max abs", model, name);
        golden_within(g, what, max_abs(lp, nll, n), tol(g, 3e-5, 0.2));
        for (size_t i = 0; i < n; i++) lp[i] = -lp[i];
        snprintf(what, sizeof what, "train %s %s: loss", model, name);
        golden_within(g, what, fabs(mean_loss(&s.b, lp) - num(ref, "loss")), tol(g, 5e-6, 5e-3));
        snprintf(what, sizeof what, "train %s %s: gradient norm, relative", model, name);
        golden_within(g, what, fabs(grad_norm(g, s.m) / num(ref, "grad_norm") - 1), tol(g, 5e-6, 2e-2));
        snprintf(file, sizeof file, "train/%s.grad_%s.safetensors", model, name);
        if (!golden_has(g, file)) {
            golden_skip(g, file);
            continue;
        }
        struct slm2_tensors grads = golden_tensors(g, file);
        snprintf(what, sizeof what, "train %s %s: gradients", model, name);
        compare_params(g, s.m, 2, NULL, NULL, &grads, what, tol(g, 3e-5, 0.13), tol(g, 1.5e-5, 8e-2), 0, false);
        slm2_tensors_free(&grads);
    }
    session_close(&s);
    free(inputs), free(targets), free(position), free(mask), free(ids), free(nll), free(lp);
    json_decref(j);
    slm2_tensors_free(&batch);
    slm2_tensors_free(&nll_ts);
}

static void test_sft(struct golden *g)
{
    char file[300];
    if (!has_all(g, (const char *const[]){"sft/sft.json", "sft/batch.safetensors", NULL})) return;
    json_t *j = golden_json(g, "sft/sft.json");
    const char *model = json_string_value(json_object_get(j, "start"));
    if (!has_model(g, model)) {
        json_decref(j);
        return;
    }
    struct slm2_tensors batch = golden_tensors(g, "sft/batch.safetensors");
    int B = (int)num(j, "batch"), T = (int)num(j, "seq_len");
    size_t n = (size_t)B * (size_t)T;
    int32_t *inputs = golden_copy(&batch, "inputs", NULL), *targets = golden_copy(&batch, "targets", NULL), *position = golden_copy(&batch, "position_ids", NULL), *mask = golden_copy(&batch, "target_mask", NULL);
    float *nll = golden_copy(&batch, "nll", NULL), *lp = malloc(sizeof(float) * n);
    struct session s = session_open(g, model, (int)n, SLM2_RECOMPUTE);
    add_rows(&s.b, inputs, targets, position, mask, B, T);
    zero_grad(g, s.m);
    slm2_model_forward(s.m, s.a, &s.b, NULL, NULL);
    slm2_model_backward(s.m, s.a, &s.b, lp, NULL);
    golden_within(g, "sft: loss", fabs(mean_loss(&s.b, lp) - num(j, "loss")), tol(g, 5e-6, 5e-3));
    golden_within(g, "sft: gradient norm, relative", fabs(grad_norm(g, s.m) / num(j, "grad_norm") - 1), tol(g, 5e-6, 2e-2));
    for (size_t i = 0; i < n; i++) lp[i] = -lp[i];
    golden_within(g, "sft: nll per token, max abs", max_abs(lp, nll, n), tol(g, 3e-5, 0.2));
    snprintf(file, sizeof file, "sft/%.200s.grad.safetensors", model);
    if (has_all(g, (const char *const[]){file, NULL})) {
        struct slm2_tensors grads = golden_tensors(g, file);
        compare_params(g, s.m, 2, NULL, NULL, &grads, "sft: gradients", tol(g, 3e-5, 0.13), tol(g, 1.5e-5, 8e-2), 0, false);
        slm2_tensors_free(&grads);
    }
    session_close(&s);
    free(inputs), free(targets), free(position), free(mask), free(nll), free(lp);
    json_decref(j);
    slm2_tensors_free(&batch);
}

/* ---- optimizers -------------------------------------------------------------------------------------------------------- */

static struct slm2_trainer *trainer_open(struct golden *g, const char *model, struct slm2_optim optim, int max_tok)
{
    struct slm2_err err;
    struct slm2_trainer *t;
    char path[2048];
    snprintf(path, sizeof path, "%s", golden_path(g, model));
    struct slm2_trainer_opts o = {.model_path = path, .precision = g->precision, .optim = optim, .max_tok = max_tok, .ctx = {g->ctx.ops->name, g->ctx.k->name, g->ctx.n_threads}};
    must(slm2_trainer_new(&t, &o, &err), &err);
    return t;
}

static void compare_file(struct golden *g, const struct slm2_trainer *t, const float *flat, const float *base, const char *file, double each, double p999, bool median)
{
    char what[400];
    if (!golden_has(g, file)) {
        golden_skip(g, file);
        return;
    }
    struct slm2_tensors ref = golden_tensors(g, file);
    snprintf(what, sizeof what, "%s", file);
    compare_params(g, t->model, 1, flat, base, &ref, what, each, 0, p999, median);
    slm2_tensors_free(&ref);
}

static void test_adamw(struct golden *g)
{
    struct slm2_err err;
    char what[200], file[100];
    size_t n = 0;
    if (!has_all(g, (const char *const[]){"optim/optim.json", "optim/batches.safetensors", NULL})) return;
    json_t *j = golden_json(g, "optim/optim.json"), *sj = json_object_get(j, "schedule"), *steps = json_object_get(j, "steps");
    if (!has_model(g, json_string_value(json_object_get(j, "start")))) {
        json_decref(j);
        return;
    }
    struct slm2_tensors batches = golden_tensors(g, "optim/batches.safetensors");
    int32_t *ids = golden_copy(&batches, "ids", &n);
    const struct slm2_tensor *shape = slm2_tensors_find(&batches, "ids");
    int B = (int)shape->dim[1], T = (int)shape->dim[2] - 1, S = (int)shape->dim[0];
    struct slm2_optim optim = slm2_optim_adamw();
    optim.beta1 = (float)json_number_value(json_array_get(json_object_get(j, "betas"), 0));
    optim.beta2 = (float)json_number_value(json_array_get(json_object_get(j, "betas"), 1));
    optim.eps = (float)num(j, "eps");
    optim.weight_decay = (float)num(j, "weight_decay");
    optim.max_grad_norm = (float)num(j, "max_grad_norm");
    struct slm2_schedule sch = {.kind = SLM2_SCHEDULE_HYBRID, .lr_peak = num(sj, "M"), .lr_min = num(sj, "m"), .n_step = (int64_t)num(sj, "N"), .n_warmup = (int64_t)num(sj, "W"), .n_cooldown = (int64_t)num(sj, "C"), .cooldown_start = (int64_t)num(sj, "cooldown_start")};
    struct slm2_trainer *t = trainer_open(g, json_string_value(json_object_get(j, "start")), optim, B * T);
    float *start = malloc(sizeof(float) * t->model->params.flat_elems);
    memcpy(start, slm2_model_master(t->model), sizeof(float) * t->model->params.flat_elems);
    struct slm2_batch b;
    int eos = t->model->cfg.eos_id;
    int32_t *in = malloc(sizeof(int32_t) * (size_t)(B * T)), *target = malloc(sizeof(int32_t) * (size_t)(B * T)), *position = malloc(sizeof(int32_t) * (size_t)(B * T));
    must(slm2_batch_init(&b, B * T, B * T, &err), &err);
    for (int s = 0; s < S; s++) {
        const json_t *ref = json_array_get(steps, (size_t)s);
        struct slm2_step_stats st;
        for (int r = 0; r < B; r++)
            for (int i = 0, at = r * T, p = 0; i < T; i++, at++) {
                in[at] = ids[(s * B + r) * (T + 1) + i];
                target[at] = ids[(s * B + r) * (T + 1) + i + 1];
                p = i > 0 && in[at - 1] == eos ? 0 : i > 0 ? p + 1 : 0;
                position[at] = p;
            }
        add_rows(&b, in, target, position, NULL, B, T);
        slm2_trainer_begin(t);
        slm2_trainer_accumulate(t, &b);
        must(slm2_trainer_update(t, slm2_schedule_lr(&sch, s), &st, &err), &err);
        snprintf(what, sizeof what, "adamw step %d: lr", s);
        golden_within(g, what, fabs(st.lr - num(ref, "lr")), 1e-12 * num(ref, "lr"));
        snprintf(what, sizeof what, "adamw step %d: loss", s);
        golden_within(g, what, fabs(st.loss - num(ref, "loss")), tol(g, 5e-6, 5e-3));
        snprintf(what, sizeof what, "adamw step %d: gradient norm, relative", s);
        golden_within(g, what, fabs(st.grad_norm / num(ref, "grad_norm") - 1), tol(g, 5e-6, 1e-2));
        snprintf(what, sizeof what, "adamw step %d: clip coefficient, relative", s);
        golden_within(g, what, fabs(st.clip / num(ref, "clip_coef") - 1), tol(g, 5e-6, 1e-2));
        snprintf(file, sizeof file, "optim/params_after_%d.safetensors", s + 1);
        if (golden_has(g, file)) compare_file(g, t, NULL, start, file, tol(g, 2e-4, 0.3), tol(g, 3e-6, 8e-3), false);
        snprintf(file, sizeof file, "optim/exp_avg_after_%d.safetensors", s + 1);
        if (golden_has(g, file)) compare_file(g, t, t->exp_avg, NULL, file, tol(g, 2e-5, 0.13), 0, false);
        snprintf(file, sizeof file, "optim/exp_avg_sq_after_%d.safetensors", s + 1);
        if (golden_has(g, file)) compare_file(g, t, t->exp_avg_sq, NULL, file, tol(g, 2e-5, 0.13), 0, false);
    }
    free(ids), free(in), free(target), free(position), free(start);
    slm2_batch_free(&b);
    slm2_trainer_free(t);
    slm2_tensors_free(&batches);
    json_decref(j);
}

/* ---- DPO --------------------------------------------------------------------------------------------------------------- */

struct pairs { /* chosen and rejected answers as sequences 2i and 2i + 1 of one batch */
    struct slm2_batch b;
    int n, longest; /* tokens of the longest answer */
    double *ref, *pi; /* [2n] summed log-probabilities */
    struct slm2_dpo_terms *terms; /* [n] of the last pairs_loss */
};

static void add_answer(struct slm2_batch *b, const json_t *prompt, const json_t *answer)
{
    struct slm2_err err;
    int np, na;
    int *p = int_list(prompt, &np), *a = int_list(answer, &na);
    int32_t *ids = malloc(sizeof(int32_t) * (size_t)(np + na)), *target = malloc(sizeof(int32_t) * (size_t)(np + na));
    for (int i = 0; i < np + na; i++) ids[i] = i < np ? p[i] : a[i - np];
    for (int i = 0; i < np + na - 1; i++) target[i] = i + 1 >= np ? ids[i + 1] : -1;
    must(slm2_batch_add(b, ids, target, NULL, np + na - 1, &err), &err);
    free(p), free(a), free(ids), free(target);
}

static struct pairs pairs_open(const json_t *list)
{
    struct slm2_err err;
    struct pairs p = {.n = (int)json_array_size(list)};
    size_t n_tok = 0, i;
    const json_t *o;
    json_array_foreach(list, i, o) n_tok += 2 * json_array_size(json_object_get(o, "prompt")) + json_array_size(json_object_get(o, "chosen")) + json_array_size(json_object_get(o, "rejected"));
    json_array_foreach(list, i, o) {
        int c = (int)json_array_size(json_object_get(o, "chosen")), r = (int)json_array_size(json_object_get(o, "rejected"));
        p.longest = c > p.longest ? c : p.longest;
        p.longest = r > p.longest ? r : p.longest;
    }
    must(slm2_batch_init(&p.b, (int)n_tok, 2 * p.n, &err), &err);
    json_array_foreach(list, i, o) {
        add_answer(&p.b, json_object_get(o, "prompt"), json_object_get(o, "chosen"));
        add_answer(&p.b, json_object_get(o, "prompt"), json_object_get(o, "rejected"));
    }
    p.ref = calloc(2 * (size_t)p.n, sizeof *p.ref);
    p.pi = calloc(2 * (size_t)p.n, sizeof *p.pi);
    p.terms = calloc((size_t)p.n, sizeof *p.terms);
    return p;
}

static void pairs_sum(const struct pairs *p, const float *lp, double *sum)
{
    for (int s = 0; s < 2 * p->n; s++) {
        sum[s] = 0;
        for (int r = p->b.cu_seqlens[s]; r < p->b.cu_seqlens[s + 1]; r++) sum[s] += (double)lp[r];
    }
}

/* Mean loss over the pairs, their terms, row weights for the backward. */
static double pairs_loss(struct pairs *p, double beta, double *accuracy)
{
    double loss = 0;
    int right = 0;
    for (int i = 0; i < p->n; i++) {
        struct slm2_dpo_terms t = p->terms[i] = slm2_dpo_loss(SLM2_DPO_SIGMOID, p->pi[2 * i], p->pi[2 * i + 1], p->ref[2 * i], p->ref[2 * i + 1], beta, 0);
        loss += t.loss / p->n;
        right += t.margin > 0;
        for (int s = 2 * i; s < 2 * i + 2; s++)
            for (int r = p->b.cu_seqlens[s]; r < p->b.cu_seqlens[s + 1]; r++) /* loss = -sum weight lp */
                p->b.weight[r] = p->b.target[r] < 0 ? 0 : (float)((s == 2 * i ? -1 : 1) * t.d_chosen / p->n);
    }
    if (accuracy) *accuracy = (double)right / p->n;
    return loss;
}

static double list_error(const json_t *want, const double *got, int step, int n)
{
    double m = 0;
    for (int i = 0; i < n; i++) {
        double d = fabs(json_number_value(json_array_get(want, (size_t)i)) - got[i * step]);
        if (!(d <= m)) m = d;
    }
    return m;
}

/* The description's allowances are for beta 0.01 and 0.1; between, below and above the error grows as beta does. */
static double loss_tol(const struct golden *g, double beta) { return tol(g, fmax(1e-6, 5e-5 * beta), 0.1 * beta); }

static void dpo_gradient(struct golden *g, struct pairs *p, const json_t *j, struct slm2_trainer *t, const char *beta_key)
{
    char what[200], file[200];
    double beta = atof(beta_key), accuracy;
    const json_t *ref = json_object_get(json_object_get(j, "by_beta"), beta_key);
    double loss = pairs_loss(p, beta, &accuracy);
    snprintf(what, sizeof what, "dpo beta %s: loss", beta_key);
    golden_within(g, what, fabs(loss - num(ref, "loss")), loss_tol(g, beta));
    /* a reward is beta times two sums that may be off by 2e-4 (0.3) each; the loss changes at most half as much as the margin */
    const struct { const char *key; const double *got; double tol, tol_bf16; } lists[] = {
        {"margin", &p->terms->margin, beta * 4e-4, beta * 0.8},
        {"reward_chosen", &p->terms->reward_chosen, beta * 4e-4, beta * 0.6},
        {"reward_rejected", &p->terms->reward_rejected, beta * 4e-4, beta * 0.6},
        {"loss_per_pair", &p->terms->loss, beta * 2e-4, beta * 0.4},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        snprintf(what, sizeof what, "dpo beta %s: %s, max abs", beta_key, lists[i].key);
        golden_within(g, what, list_error(json_object_get(ref, lists[i].key), lists[i].got, sizeof *p->terms / sizeof(double), p->n), tol(g, lists[i].tol, lists[i].tol_bf16));
    }
    int n_turned = 0, n_right = 0; /* signs that differ though no rounding may turn them */
    for (int i = 0; i < p->n; i++) {
        double want = json_number_value(json_array_get(json_object_get(ref, "margin"), (size_t)i)), got = p->terms[i].margin;
        n_turned += fabs(want) > tol(g, lists[0].tol, lists[0].tol_bf16) && (want > 0) != (got > 0);
        n_right += got > 0;
    }
    snprintf(what, sizeof what, "dpo beta %s: margins of another sign", beta_key);
    golden_within(g, what, n_turned, 0);
    snprintf(what, sizeof what, "dpo beta %s: accuracy is the share of margins above 0, difference", beta_key);
    golden_within(g, what, fabs(accuracy - (double)n_right / p->n), 1e-12);
    slm2_trainer_begin(t);
    slm2_trainer_forward(t, &p->b);
    slm2_trainer_backward(t, &p->b);
    snprintf(what, sizeof what, "dpo beta %s: gradient norm, relative", beta_key);
    golden_within(g, what, fabs(grad_norm(g, t->model) / num(ref, "grad_norm") - 1), tol(g, fmax(5e-6, 5e-5 * beta), fmax(2e-2, 0.2 * beta))); /* of sigma(-margin) */
    snprintf(file, sizeof file, "dpo/grad_beta%s.safetensors", beta_key);
    if (!golden_has(g, file)) {
        golden_skip(g, file);
        return;
    }
    struct slm2_tensors grads = golden_tensors(g, file);
    snprintf(what, sizeof what, "dpo beta %s: gradients", beta_key);
    compare_params(g, t->model, 2, NULL, NULL, &grads, what, tol(g, 3e-5, 0.13), tol(g, 1.5e-5, 8e-2), 0, false);
    slm2_tensors_free(&grads);
}

static void dpo_rmsprop(struct golden *g, struct pairs *p, const json_t *j, const json_t *run)
{
    struct slm2_err err;
    char what[200], file[300];
    double beta = num(run, "beta"), lr = num(run, "lr");
    struct slm2_optim optim = slm2_optim_rmsprop();
    optim.alpha = (float)num(run, "alpha");
    optim.eps = (float)num(run, "eps");
    struct slm2_trainer *t = trainer_open(g, json_string_value(json_object_get(j, "policy")), optim, p->b.n_tok);
    float *start = malloc(sizeof(float) * t->model->params.flat_elems);
    memcpy(start, slm2_model_master(t->model), sizeof(float) * t->model->params.flat_elems);
    const json_t *steps = json_object_get(run, "steps");
    for (size_t s = 0; s <= json_array_size(steps); s++) {
        bool last = s == json_array_size(steps);
        slm2_trainer_begin(t);
        slm2_trainer_forward(t, &p->b);
        pairs_sum(p, t->lp, p->pi);
        double loss = pairs_loss(p, beta, NULL), want = last ? num(run, "final_loss") : num(json_array_get(steps, s), "loss");
        snprintf(what, sizeof what, "rmsprop beta %g lr %g step %zu: loss", beta, lr, s);
        golden_within(g, what, fabs(loss - want), tol(g, fmax(5e-6, 5e-5 * beta), fmax(1e-2, 0.1 * beta)));
        if (last) break;
        slm2_trainer_backward(t, &p->b);
        must(slm2_trainer_update(t, lr, &(struct slm2_step_stats){0}, &err), &err);
    }
    snprintf(file, sizeof file, "dpo/%s", json_string_value(json_object_get(run, "params")));
    compare_file(g, t, NULL, start, file, tol(g, 1e-3, 0.4), tol(g, fmax(1e-6, 0.03 * lr), fmax(2.1e-4, 40 * lr)), true);
    if (!mixed(g)) compare_file(g, t, NULL, start, file, 1e-2, 0, false);
    free(start);
    slm2_trainer_free(t);
}

static void test_dpo(struct golden *g)
{
    if (!has_all(g, (const char *const[]){"dpo/dpo.json", NULL})) return;
    json_t *j = golden_json(g, "dpo/dpo.json");
    if (!has_model(g, json_string_value(json_object_get(j, "policy"))) || !has_model(g, json_string_value(json_object_get(j, "reference")))) {
        json_decref(j);
        return;
    }
    struct pairs p = pairs_open(json_object_get(j, "pairs"));
    struct slm2_trainer *ref = trainer_open(g, json_string_value(json_object_get(j, "reference")), slm2_optim_rmsprop(), p.b.n_tok);
    struct slm2_trainer *t = trainer_open(g, json_string_value(json_object_get(j, "policy")), slm2_optim_rmsprop(), p.b.n_tok);
    slm2_trainer_forward(ref, &p.b);
    pairs_sum(&p, ref->lp, p.ref);
    slm2_trainer_forward(t, &p.b);
    pairs_sum(&p, t->lp, p.pi);
    double longer = fmax(1, p.longest / 25.0); /* the allowances are for sums of up to 25 tokens */
    const struct { const char *key; const double *got; } sums[] = {{"ref_logp_chosen", p.ref}, {"ref_logp_rejected", p.ref + 1}, {"policy_logp_chosen", p.pi}, {"policy_logp_rejected", p.pi + 1}};
    for (size_t i = 0; i < 4; i++) {
        char what[100];
        snprintf(what, sizeof what, "dpo: %s, max abs", sums[i].key);
        golden_within(g, what, list_error(json_object_get(j, sums[i].key), sums[i].got, 2, p.n), longer * tol(g, 2e-4, 0.3));
    }
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(j, "by_beta"), key, v) dpo_gradient(g, &p, j, t, key);
    for (size_t i = 0; i < json_array_size(json_object_get(j, "rmsprop")); i++) dpo_rmsprop(g, &p, j, json_array_get(json_object_get(j, "rmsprop"), i));
    slm2_trainer_free(ref);
    slm2_trainer_free(t);
    slm2_batch_free(&p.b);
    free(p.ref), free(p.pi), free(p.terms);
    json_decref(j);
}

/* ---- generation -------------------------------------------------------------------------------------------------------- */

static float or_default(const json_t *o, const char *key, double def)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? (float)json_number_value(v) : (float)def;
}

static void test_sampling(struct golden *g)
{
    struct slm2_err err;
    if (!has_all(g, (const char *const[]){"generate/sampling.json", "generate/sampling.safetensors", NULL})) return;
    json_t *j = golden_json(g, "generate/sampling.json"), *v;
    struct slm2_tensors ts = golden_tensors(g, "generate/sampling.safetensors");
    const struct slm2_tensor *shape = slm2_tensors_find(&ts, "logits");
    int n = (int)shape->dim[0], V = (int)shape->dim[1];
    float *logits = golden_copy(&ts, "logits", NULL), *probs = malloc(sizeof(float) * (size_t)V);
    const char *name;
    json_object_foreach(json_object_get(j, "cases"), name, v)
    {
        char key[100], what[200];
        struct slm2_sampler *s;
        struct slm2_sampler_opts o = {.temperature = or_default(v, "temperature", 1), .top_k = (int)or_default(v, "top_k", 0), .top_p = or_default(v, "top_p", 1), .min_p = or_default(v, "min_p", 0), .repetition_penalty = or_default(v, "repetition_penalty", 1)};
        must(slm2_sampler_new(&s, V, &o, &err), &err);
        snprintf(key, sizeof key, "probs.%s", name);
        float *want = golden_copy(&ts, key, NULL);
        double worst = 0;
        int kept_differ = 0;
        for (int i = 0; want && i < n; i++) {
            int n_prev;
            int *prev = int_list(json_object_get(json_array_get(json_object_get(j, "vectors"), (size_t)i), "previous_ids"), &n_prev);
            slm2_sampler_probs(s, logits + i * V, prev, (size_t)n_prev, probs);
            double d = max_abs(probs, want + i * V, (size_t)V);
            if (!(d <= worst)) worst = d;
            for (int k = 0; k < V; k++) kept_differ += (probs[k] != 0) != (want[i * V + k] != 0);
            free(prev);
        }
        snprintf(what, sizeof what, "sampling %s: probabilities, max abs", name);
        golden_within(g, what, want ? worst : (double)INFINITY, 2e-6);
        snprintf(what, sizeof what, "sampling %s: tokens kept that differ", name);
        golden_equal(g, what, kept_differ, 0);
        free(want);
        slm2_sampler_free(s);
    }
    free(logits), free(probs);
    slm2_tensors_free(&ts);
    json_decref(j);
}

/* Greedy decoding through the layers with a cache, on this backend. */
static void greedy_run(struct golden *g, const json_t *run, const char *label)
{
    struct slm2_err err;
    char what[200];
    int np, nc, wrong = 0;
    int *prompt = int_list(json_object_get(run, "prompt"), &np), *cont = int_list(json_object_get(run, "continuation"), &nc);
    const json_t *lps = json_object_get(run, "logprobs");
    if (!has_model(g, json_string_value(json_object_get(run, "model")))) {
        free(prompt), free(cont);
        return;
    }
    struct session s = session_open(g, json_string_value(json_object_get(run, "model")), np, SLM2_INFER);
    int V = s.m->cfg.vocab_size;
    struct slm2_kv kv;
    struct slm2_sampler *sampler;
    struct slm2_sampler_opts o = slm2_sampler_opts_default();
    o.temperature = 0;
    o.top_k = 0, o.top_p = 1, o.min_p = 0;
    o.repetition_penalty = (float)num(run, "repetition_penalty");
    must(slm2_sampler_new(&sampler, V, &o, &err), &err);
    must(slm2_kv_init(&kv, &s.m->cfg, 1, np + nc, act_type(g), &err), &err);
    int32_t *ids = malloc(sizeof(int32_t) * (size_t)(np + nc)), slot = 0;
    float *logits = malloc(sizeof(float) * (size_t)V);
    double worst = 0;
    for (int i = 0; i < np; i++) ids[i] = prompt[i];
    for (int i = 0; i < nc; i++) {
        int from = i == 0 ? 0 : np + i - 1;
        slm2_batch_clear(&s.b);
        must(slm2_batch_add(&s.b, ids + from, NULL, NULL, np + i - from, &err), &err);
        for (int r = 0; r < s.b.n_tok; r++) s.b.position[r] = from + r;
        slm2_model_forward(s.m, s.a, &s.b, &kv, &slot);
        slm2_model_logits(s.m, s.a, s.b.n_tok - 1, 1, logits);
        double max = -INFINITY, sum = 0;
        for (int v = 0; v < V; v++) max = fmax(max, (double)logits[v]);
        for (int v = 0; v < V; v++) sum += exp((double)logits[v] - max);
        if (lps) {
            double d = fabs((double)logits[cont[i]] - max - log(sum) - json_number_value(json_array_get(lps, (size_t)i)));
            if (!(d <= worst)) worst = d;
        }
        wrong += slm2_sampler_next(sampler, logits, ids, (size_t)(np + i)) != cont[i];
        ids[np + i] = cont[i];
    }
    snprintf(what, sizeof what, "greedy %s: ids that differ", label);
    if (!mixed(g)) golden_equal(g, what, wrong, 0);
    snprintf(what, sizeof what, "greedy %s: log-probabilities, max abs", label);
    if (lps) golden_within(g, what, worst, tol(g, 3e-5, 0.3));
    free(prompt), free(cont), free(ids), free(logits);
    slm2_sampler_free(sampler);
    slm2_kv_free(&kv);
    session_close(&s);
}

static void test_greedy(struct golden *g)
{
    if (!golden_has(g, "generate/greedy.json")) {
        golden_skip(g, "generate/greedy.json");
        return;
    }
    json_t *j = golden_json(g, "generate/greedy.json"), *run;
    const char *const lists[] = {"runs", "eos_stop"};
    for (int l = 0; l < 2; l++) {
        size_t i;
        json_array_foreach(json_object_get(j, lists[l]), i, run)
        {
            char label[100];
            snprintf(label, sizeof label, "%s %zu (%s, penalty %g)", lists[l], i, json_string_value(json_object_get(run, "model")), num(run, "repetition_penalty"));
            greedy_run(g, run, label);
        }
    }
    json_decref(j);
}

/* ---- numbers without a model ------------------------------------------------------------------------------------------- */

static void test_schedule(struct golden *g)
{
    if (!golden_has(g, "schedule/schedule.json")) {
        golden_skip(g, "schedule/schedule.json");
        return;
    }
    json_t *j = golden_json(g, "schedule/schedule.json"), *row;
    struct slm2_schedule s = {.kind = SLM2_SCHEDULE_HYBRID, .lr_peak = num(j, "M"), .lr_min = num(j, "m"), .n_step = (int64_t)num(j, "N"), .n_warmup = (int64_t)num(j, "W"), .n_cooldown = (int64_t)num(j, "C")};
    double alpha, beta, worst = 0;
    int phases = 0;
    size_t i;
    slm2_schedule_rsqrt(&s, &alpha, &beta);
    golden_within(g, "schedule: alpha, relative", fabs(alpha / num(j, "alpha") - 1), 1e-12);
    golden_within(g, "schedule: beta, relative", fabs(beta / num(j, "beta") - 1), 1e-12);
    json_array_foreach(json_object_get(j, "rows"), i, row)
    {
        const json_t *start = json_object_get(row, "cooldown_start");
        s.cooldown_start = json_is_null(start) ? -1 : (int64_t)json_integer_value(start);
        int64_t step = (int64_t)num(row, "step");
        double lr = num(row, "lr"), got = slm2_schedule_lr(&s, step), d = fabs(got - lr) / (lr > 0 ? lr : 1);
        if (!(d <= worst)) worst = d;
        const char *phase = json_string_value(json_object_get(row, "phase"));
        bool same = !strcmp(phase, slm2_schedule_phase(&s, step));
        if (!same) printf("step %lld: phase %s, want %s\n", (long long)step, slm2_schedule_phase(&s, step), phase);
        phases += !same;
    }
    golden_within(g, "schedule: lr, relative", worst, 1e-12);
    golden_equal(g, "schedule: phases that differ", phases, 0);
    json_decref(j);
}

static void test_bf16(struct golden *g)
{
    FILE *f = fopen(golden_path(g, "bf16/vectors.txt"), "r");
    char line[300];
    int wrong = 0, n = 0;
    if (!f) {
        golden_skip(g, "bf16/vectors.txt");
        return;
    }
    while (fgets(line, sizeof line, f)) {
        unsigned in, want;
        if (line[0] == '#' || sscanf(line, "%x %x", &in, &want) != 2) continue;
        float x;
        uint32_t u = in;
        uint16_t fast;
        memcpy(&x, &u, 4);
        g->ctx.k->from_f32[SLM2_BF16](&fast, &x, 1);
        uint16_t got = slm2_f32_to_bf16(x);
        bool nan = isnan(x);
        wrong += nan ? !isnan(slm2_bf16_to_f32(got)) || !isnan(slm2_bf16_to_f32(fast)) : got != want || fast != want;
        n++;
    }
    fclose(f);
    golden_equal(g, "bf16: roundings that differ", wrong, 0);
    golden_within(g, "bf16: no vectors read", n == 0, 0);
}

static void run_all(struct golden *g, const char *backend, const char *isa, enum slm2_precision precision)
{
    struct slm2_err err;
    struct slm2_ctx_opts o = {.backend = backend, .isa = isa, .n_threads = 2};
    g->precision = precision;
    if (slm2_ctx_init(&g->ctx, &o, &err) != SLM2_OK) {
        printf("skip %s/%s: %s\n", backend, isa, err.msg);
        return;
    }
    snprintf(g->where, sizeof g->where, "%s/%s %s", backend, isa, precision == SLM2_FP32 ? "fp32" : "bf16");
    test_all_forward(g);
    test_train(g, "tiny", SLM2_KEEP_ALL);
    test_train(g, "tiny-gqa-qkln", SLM2_KEEP_ALL);
    test_train(g, "tiny", SLM2_RECOMPUTE);
    test_train(g, "tiny-gqa-qkln", SLM2_RECOMPUTE);
    test_adamw(g);
    test_sft(g);
    test_dpo(g);
    test_greedy(g);
    if (precision == SLM2_FP32) {
        test_sampling(g);
        test_schedule(g);
        test_bf16(g);
    }
    slm2_ctx_free(&g->ctx);
}

int main(int argc, char **argv)
{
    static const char *const isas[] = {"scalar", "avx2", "avx512"};
    struct golden g = {.dir = argc > 1 ? argv[1] : "tests/data/golden"};
    const char *only = getenv("SLM2_ISA");
    if (!only) { /* ref has no instruction sets */
        run_all(&g, "ref", "scalar", SLM2_FP32);
        run_all(&g, "ref", "scalar", SLM2_BF16_MIXED);
    }
    for (int i = 0; i < 3; i++) {
        if (only && strcmp(only, isas[i])) continue;
        run_all(&g, "cpu", isas[i], SLM2_FP32);
        run_all(&g, "cpu", isas[i], SLM2_BF16_MIXED);
    }
    if (g.n_skipped) printf("%d skipped\n", g.n_skipped);
    printf("%d passed, %d failed\n", g.n_passed, g.n_failed);
    return g.n_failed != 0 || g.n_passed == 0;
}
