/* test_tokenizer.c - golden encodings: every line of FILE (default tests/data/tokenizer/golden.jsonl) against the bundled vocabulary.
 *
 * usage: test_tokenizer [FILE [VOCAB]].  Text lines are encoded and their ids decoded again; `op` lines give the bytes of one
 * token or of a decoded sequence.  Prints each failed line's number and "N passed, N failed" at the end. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "slm2_test.h"
#include "tok/tok.h"

static size_t base64(const char *s, uint8_t *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    uint32_t v = 0;
    int bits = 0;
    for (; *s && *s != '='; s++) {
        v = v << 6 | (uint32_t)(strchr(digits, *s) - digits);
        bits += 6;
        if (bits >= 8) out[n++] = (uint8_t)(v >> (bits -= 8));
    }
    return n;
}

static bool same_ids(const struct slm2_ids *got, const json_t *want)
{
    if (got->n != json_array_size(want)) return false;
    for (size_t i = 0; i < got->n; i++)
        if (got->v[i] != json_integer_value(json_array_get(want, i))) return false;
    return true;
}

static bool same_bytes(const struct slm2_buf *got, const void *want, size_t n) { return got->n == n && (n == 0 || memcmp(got->v, want, n) == 0); }

/* one line; why[] says what is wrong */
static bool check_line(const struct slm2_tok *tok, const json_t *o, char why[256])
{
    const json_t *ids = json_object_get(o, "ids");
    const char *op = json_string_value(json_object_get(o, "op")), *b64 = json_string_value(json_object_get(o, "bytes_b64"));
    struct slm2_ids got = {0}, given = {0};
    struct slm2_buf bytes = {0}, nfc = {0};
    struct slm2_err err = {0};
    bool ok = json_is_array(ids), changed = false;
    snprintf(why, 256, "no ids");
    for (size_t i = 0; i < json_array_size(ids); i++) ok = slm2_ids_push(&given, (int32_t)json_integer_value(json_array_get(ids, i)), &err) == SLM2_OK && ok;
    if (!ok) goto done;
    if (op) {
        uint8_t *want = malloc(strlen(b64) + 1);
        size_t n = base64(b64, want);
        snprintf(why, 256, "%s: other bytes", op);
        ok = slm2_tok_decode(tok, given.v, given.n, &bytes, &err) == SLM2_OK && same_bytes(&bytes, want, n);
        if (ok && strcmp(op, "single_token") == 0) {
            snprintf(why, 256, "single_token: other id");
            ok = slm2_tok_encode(tok, (const char *)want, n, 0, &got, &err) == SLM2_OK && same_ids(&got, ids);
        }
        free(want);
    } else {
        const json_t *text = json_object_get(o, "text");
        const char *s = json_string_value(text), *special = json_string_value(json_object_get(o, "allowed_special")), *norm = json_string_value(json_object_get(o, "norm"));
        size_t n = json_string_length(text);
        int flags = (special && strcmp(special, "all") == 0 ? SLM2_TOK_SPECIAL : 0) | (norm && strcmp(norm, "none") == 0 ? 0 : SLM2_TOK_NFC);
        ok = slm2_tok_encode(tok, s, n, flags, &got, &err) == SLM2_OK;
        snprintf(why, 256, "%.200s", err.msg);
        if (!ok) goto done;
        ok = same_ids(&got, ids);
        for (size_t i = 0; !ok && i <= got.n; i++)
            if (i == got.n || i == given.n || got.v[i] != given.v[i]) {
                snprintf(why, 256, "ids differ from index %zu on: %d for %d", i, i < got.n ? got.v[i] : -1, i < given.n ? given.v[i] : -1);
                break;
            }
        if (!ok) goto done;
        if (flags & SLM2_TOK_NFC) ok = slm2_nfc(s, n, &nfc, &changed, &err) == SLM2_OK;
        snprintf(why, 256, "decode(ids) is another text");
        ok = ok && slm2_tok_decode(tok, given.v, given.n, &bytes, &err) == SLM2_OK && same_bytes(&bytes, changed ? nfc.v : s, changed ? nfc.n : n);
    }
done:
    slm2_ids_free(&got);
    slm2_ids_free(&given);
    slm2_buf_free(&bytes);
    slm2_buf_free(&nfc);
    return ok;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : slm2_test_data("tokenizer/golden.jsonl"), *line;
    struct slm2_tok *tok = NULL;
    struct slm2_lines *f = NULL;
    struct slm2_err err = {0};
    size_t n;
    int n_ok = 0, n_bad = 0;
    if (slm2_tok_open(&tok, argc > 2 ? argv[2] : NULL, &err) != SLM2_OK || slm2_lines_open(&f, path, &err) != SLM2_OK) n_bad++;
    while (n_bad == 0 || f) {
        json_t *o = NULL;
        char why[256];
        slm2_status st = slm2_lines_next(f, &line, &n, &err);
        if (st == SLM2_OK && !line) break;
        if (st == SLM2_OK) st = slm2_json_parse(&o, line, n, "line", &err);
        if (st != SLM2_OK) snprintf(why, sizeof why, "%.200s", err.msg);
        if (st == SLM2_OK && check_line(tok, o, why)) {
            n_ok++;
        } else if (++n_bad <= 20) {
            printf("%s:%llu: %s\n", path, (unsigned long long)slm2_lines_number(f), why);
        }
        json_decref(o);
        if (st != SLM2_OK) break;
    }
    if (!f || n_ok == 0) printf("%s\n", err.msg[0] ? err.msg : "no lines");
    slm2_lines_close(f);
    slm2_tok_free(tok);
    printf("%d passed, %d failed\n", n_ok, n_bad + (n_ok + n_bad == 0));
    return n_bad != 0 || n_ok == 0;
}
