/* cmd_bench.c - `slm2 bench PART`: the limits of the machine, the tokenizer, the training step; without a part, a model. */
#include "cli/bench.h"

#include <string.h>

int slm2_cmd_bench(int argc, char **argv)
{
    static const struct {
        char name[12], full[20]; /* full: the name in messages */
        int (*run)(int argc, char **argv);
    } parts[] = {{"limits", "bench limits", slm2_cmd_bench_limits}, {"tokenizer", "bench tokenizer", slm2_cmd_bench_tokenizer}, {"train", "bench train", slm2_cmd_bench_train}};
    for (size_t i = 0; argc > 1 && i < sizeof parts / sizeof parts[0]; i++)
        if (strcmp(argv[1], parts[i].name) == 0) {
            char full[20];
            memcpy(full, parts[i].full, sizeof full);
            argv[1] = full;
            return parts[i].run(argc - 1, argv + 1);
        }
    return slm2_cmd_bench_model(argc, argv);
}
