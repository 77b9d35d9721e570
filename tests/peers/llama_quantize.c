/* llama_quantize.c - quantises a GGUF file by llama.cpp's own code: opens the library that node-llama-cpp brings along and calls
 * llama_model_quantize.  usage: llama_quantize LIBRARY_FOLDER IN.gguf OUT.gguf Q8_0|Q4_0 */
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
    if (argc != 5 || (strcmp(argv[4], "Q8_0") != 0 && strcmp(argv[4], "Q4_0") != 0)) {
        fprintf(stderr, "usage: llama_quantize LIBRARY_FOLDER IN.gguf OUT.gguf Q8_0|Q4_0\n");
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
    int q8 = strcmp(argv[4], "Q8_0") == 0;
    struct params p = defaults();
    if (p.nthread != 0 || p.output_tensor_type != p.token_embedding_type) { /* both are "as the file type says" */
        fprintf(stderr, "llama_model_quantize_params has another layout here\n");
        return 3;
    }
    p.nthread = 2;
    p.ftype = q8 ? 7 : 2;                                         /* LLAMA_FTYPE_MOSTLY_Q8_0, _Q4_0 */
    p.output_tensor_type = p.token_embedding_type = q8 ? 8 : 2; /* GGML_TYPE_Q8_0, _Q4_0: else the output layer becomes Q6_K */
    return quantize(argv[2], argv[3], &p) == 0 ? 0 : 1;
}
