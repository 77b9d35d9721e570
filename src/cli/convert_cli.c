/* convert_cli.c - names of types, progress and the JSON report of `convert` and `quantize`. */
#include "cli/convert_cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tok/chat.h"

slm2_status slm2_cli_weight_type(enum slm2_dtype *t, const char *name, const char *option, struct slm2_err *err)
{
    int d = *name && strcmp(name, "keep") ? slm2_dtype_from_name(name) : (int)SLM2_KEEP;
    if (d != (int)SLM2_KEEP && (d < 0 || !slm2_quant_readable((enum slm2_dtype)d)))
        return slm2_fail(err, SLM2_EUSAGE, "--%s %s: want F32, F16, BF16, Q8_0, Q4_0 or Q4_1", option, name);
    *t = (enum slm2_dtype)d;
    return SLM2_OK;
}

void slm2_cli_convert_progress(double fraction, const char *tensor, void *user) { slm2_progress(user, fraction, "%s", tensor); }

slm2_status slm2_cli_chat_template(char **text, const char *name, struct slm2_err *err)
{
    struct slm2_buf b = {0};
    *text = NULL;
    if (!*name) return SLM2_OK;
    for (int i = 0; slm2_chat_names[i]; i++) {
        if (strcmp(name, slm2_chat_names[i])) continue;
        *text = strdup(slm2_chat_jinja((enum slm2_chat_template)i));
        return *text ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for the chat template");
    }
    SLM2_TRY(slm2_file_read(&b, name, (size_t)1 << 20, err));
    *text = strndup(b.n ? b.v : "", b.n);
    slm2_buf_free(&b);
    return *text ? SLM2_OK : slm2_fail(err, SLM2_ENOMEM, "no memory for the chat template");
}

json_t *slm2_cli_convert_json(const struct slm2_convert_report *r, const char *in, const char *out)
{
    json_t *list = json_array();
    for (int i = 0; i < r->n; i++) {
        const struct slm2_convert_tensor *t = &r->v[i];
        json_t *j = json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", t->name, "from", slm2_dtype_info[t->from].name, "to", slm2_dtype_info[t->to].name, "elements",
                              (json_int_t)t->n_elems, "bytes", (json_int_t)t->bytes);
        if (t->error.n) {
            json_object_set_new(j, "rmse", json_real(slm2_quant_rmse(&t->error)));
            json_object_set_new(j, "relative", json_real(slm2_quant_relative(&t->error)));
            json_object_set_new(j, "max_abs", json_real(t->error.max_abs));
        }
        json_array_append_new(list, j);
    }
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:o}", "in", in, "out", out, "vocabulary", r->vocabulary, "bytes_in", (json_int_t)r->bytes_in, "bytes_out",
                     (json_int_t)r->bytes_out, "tensors", list);
}

void slm2_cli_bytes(char out[32], double bytes)
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    int u = 0;
    for (; bytes >= 1000 && u < 4; u++) bytes /= 1000;
    snprintf(out, 32, u ? "%.3g %s" : "%.0f %s", bytes, units[u]);
}
