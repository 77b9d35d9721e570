/* cmd_info.c - `slm2 info`: what a file, a model or a run is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/info.h"
#include "cli/share.h"

struct opts { bool json, tensors; };
static const struct slm2_opt table[] = {
    {.name = "tensors", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, tensors), .help = "list every tensor: name, type, shape, bytes"},
    {.name = "json", .type = SLM2_OPT_BOOL, .offset = offsetof(struct opts, json), .help = "as one JSON object a path"},
    {.name = NULL},
};
static const struct slm2_cli_doc doc = {
    .usage = "info PATH...",
    .about = "Says what a path is and what lies in it: safetensors files and indices, GGUF files, Hugging Face folders, checkpoints, .bin/.idx token\n"
             "files, data folders, vocabularies (.tiktoken, tokenizer.json), config.json, run folders and their ledgers (run.sqlite).\n"
             "Files are checked as they are when loaded: a damaged one is an error that says where.",
    .examples = "slm2 info stablelm-2-1_6b --tensors\nslm2 info model.gguf --json",
};

static void put_spaces(int n) { printf("%*s", n, ""); }

/* text on one line, at most 100 bytes, control characters as '?' */
static void put_text(const char *s)
{
    int n = 0;
    for (; *s && n < 100; s++, n++) putchar((unsigned char)*s < 32 || *s == 127 ? '?' : *s);
    if (*s) printf("...");
}

static void put_scalar(const json_t *v)
{
    if (json_is_string(v)) {
        put_text(json_string_value(v));
    } else {
        char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(8) | JSON_COMPACT);
        put_text(s ? s : "");
        free(s);
    }
}

static void put_tensor_list(const json_t *list)
{
    size_t i;
    json_t *t;
    json_array_foreach(list, i, t) {
        char *shape = json_dumps(json_object_get(t, "shape"), JSON_COMPACT);
        printf("    %-52s %-6s %-16s %12lld\n", json_string_value(json_object_get(t, "name")), json_string_value(json_object_get(t, "type")), shape ? shape : "",
               (long long)json_integer_value(json_object_get(t, "bytes")));
        free(shape);
    }
}

static void put_object(const json_t *j, int indent)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)j, key, v) {
        put_spaces(indent);
        if (!strcmp(key, "tensor_list")) {
            printf("%s\n", key);
            put_tensor_list(v);
        } else if (json_is_object(v) && json_object_size(v) && !json_object_get(v, "array_of")) {
            printf("%s\n", key);
            put_object(v, indent + 4);
        } else {
            printf("%-*s ", 42 - indent, key);
            put_scalar(v);
            putchar('\n');
        }
    }
}

static int run(const struct opts *o, const char *path)
{
    struct slm2_err err;
    json_t *j;
    if (slm2_cli_info(&j, path, o->tensors, &err) != SLM2_OK) return slm2_cli_fail(&err);
    if (o->json) return slm2_cli_json(j);
    put_object(j, 0);
    json_decref(j);
    return 0;
}

int slm2_cmd_info(int argc, char **argv)
{
    enum { MAX_PATHS = 64 };
    struct opts o;
    const char *pos[MAX_PATHS];
    int n_pos, rc = slm2_cli_parse(&doc, table, &o, argc, argv, pos, MAX_PATHS, &n_pos);
    if (rc < 0) {
        rc = n_pos > 0 ? 0 : slm2_cli_usage("info: want a file or folder: slm2 info PATH");
        for (int i = 0; i < n_pos; i++) {
            int one = run(&o, slm2_share_arg(pos[i]));
            if (one > rc) rc = one;
            if (i + 1 < n_pos && !o.json) putchar('\n');
        }
    }
    slm2_conf_free(table, &o);
    return rc;
}
