/* llama_quantize.c - quantises a GGUF file by llama.cpp's own code: opens the library that node-llama-cpp brings along and calls
 * llama_model_quantize.  usage: llama_quantize LIBRARY_FOLDER IN.gguf OUT.gguf TYPE */
#include <dlfcn.h>
#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* llama.h, struct llama_model_quantize_params: its first fields, which have stood since 2023; later ones keep their defaults */
struct params {
    int32_t nthread;
    int32_t ftype;
    int32_t output_tensor_type;
    int32_t token_embedding_type;
    unsigned char rest[1024];
};
typedef struct params (*default_params_fn)(void);
typedef uint32_t (*quantize_fn)(const char *in, const char *out, const struct params *p);
typedef void (*init_fn)(void);

/* llama.h, LLAMA_FTYPE_MOSTLY_*, and the ggml type of the embedding and the output layer, which would become Q6_K in some of them; the types with
 * an M and Q6_K are left as llama.cpp mixes them. */
enum { AS_MIXED = -1 };
static const struct file_type { const char *name; int ftype, all; } file_types[] = {
    {"Q4_0", 2, 2}, {"Q4_1", 3, 3}, {"Q8_0", 7, 8}, {"Q5_0", 8, 6}, {"Q4_K_M", 15, AS_MIXED}, {"Q5_K_M", 17, AS_MIXED}, {"Q6_K", 18, AS_MIXED},
};
enum { N_FILE_TYPE = sizeof file_types / sizeof *file_types };

static const struct file_type *file_type_of(const char *name)
{
    for (int i = 0; i < N_FILE_TYPE; i++) {
        if (!strcmp(name, file_types[i].name)) return &file_types[i];
    }
    return NULL;
}

static void *open_one(const char *folder, const char *pattern)
{
    char path[4096];
    glob_t g;
    void *lib = NULL;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, pattern) >= sizeof path || glob(path, 0, NULL, &g) != 0) return NULL;
    if (g.gl_pathc > 0) lib = dlopen(g.gl_pathv[0], RTLD_NOW | RTLD_GLOBAL);
    globfree(&g);
    return lib;
}

/* ISO C has no cast from an object pointer to a function pointer: the bytes are copied */
static int find(void *lib, const char *name, void *fn, size_t size)
{
    void *p = dlsym(lib, name);
    memcpy(fn, &p, size);
    return p != NULL;
}

int main(int argc, char **argv)
{
    default_params_fn defaults;
    quantize_fn quantize;
    init_fn init;
    const struct file_type *t = argc == 5 ? file_type_of(argv[4]) : NULL;
    if (!t) {
        fprintf(stderr, "usage: llama_quantize LIBRARY_FOLDER IN.gguf OUT.gguf TYPE, which is one of");
        for (int i = 0; i < N_FILE_TYPE; i++) fprintf(stderr, " %s", file_types[i].name);
        fprintf(stderr, "\n");
        return 2;
    }
    void *lib = open_one(argv[1], "libllama.*so");
    if (!lib) {
        fprintf(stderr, "no libllama in %s: %s\n", argv[1], dlerror());
        return 3;
    }
    if (!find(lib, "llama_model_quantize_default_params", &defaults, sizeof defaults) || !find(lib, "llama_model_quantize", &quantize, sizeof quantize) ||
        !find(lib, "llama_backend_init", &init, sizeof init)) {
        fprintf(stderr, "libllama has no llama_model_quantize\n");
        return 3;
    }
    init();
    struct params p = defaults();
    if (p.nthread != 0 || p.output_tensor_type != p.token_embedding_type) { /* both are "as the file type says" */
        fprintf(stderr, "llama_model_quantize_params has another layout here\n");
        return 3;
    }
    p.nthread = 2;
    p.ftype = t->ftype;
    if (t->all != AS_MIXED) p.output_tensor_type = p.token_embedding_type = t->all;
    return quantize(argv[2], argv[3], &p) == 0 ? 0 : 1;
}
