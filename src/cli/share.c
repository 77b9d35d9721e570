/* share.c - finds the files that come with the program. */
#include "cli/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#ifndef SLM2_SHARE
#define SLM2_SHARE "/usr/local/share/slm2" /* the Makefile sets it to PREFIX/share/slm2 */
#endif

static const char *const folders[] = {"configs", "assets"};
enum { N_FOLDER = sizeof folders / sizeof folders[0], MAX_PLACE = 3 };

/* The length of the name of a shared file that text begins with, 0: it begins with none. */
static size_t name_length(const char *text)
{
    for (int i = 0; i < N_FOLDER; i++) {
        size_t n = strlen(folders[i]);
        if (strncmp(text, folders[i], n) == 0 && (text[n] == '/' || !text[n])) return strcspn(text, " :,;\"\n");
    }
    return 0;
}

static int places(char dir[MAX_PLACE][SLM2_SHARE_PATH])
{
    const char *from_env = getenv("SLM2_SHARE");
    char exe[SLM2_SHARE_PATH];
    int n = 0;
    if (from_env && *from_env) {
        snprintf(dir[n++], SLM2_SHARE_PATH, "%s", from_env);
        return n;
    }
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[len > 0 ? len : 0] = '\0';
    for (int up = 0; up < 2; up++) { /* the folder above that of the program */
        char *slash = strrchr(exe, '/');
        if (slash) *slash = '\0';
    }
    if (*exe) {
        snprintf(dir[n++], SLM2_SHARE_PATH, "%s", exe);
        if (snprintf(dir[n], SLM2_SHARE_PATH, "%s/share/slm2", exe) < SLM2_SHARE_PATH) n++;
    }
    if (n < 2 || strcmp(dir[n - 1], SLM2_SHARE) != 0) snprintf(dir[n++], SLM2_SHARE_PATH, "%s", SLM2_SHARE);
    return n;
}

bool slm2_share_find(const char *path, char out[SLM2_SHARE_PATH])
{
    char dir[MAX_PLACE][SLM2_SHARE_PATH];
    if (name_length(path) && !slm2_path_exists(path)) {
        int n = places(dir);
        for (int i = 0; i < n; i++)
            if (slm2_path_join(out, SLM2_SHARE_PATH, dir[i], path, NULL) == SLM2_OK && slm2_path_exists(out)) return true;
    }
    snprintf(out, SLM2_SHARE_PATH, "%s", path);
    return false;
}

static slm2_status settle(char **path, struct slm2_err *err)
{
    char found[SLM2_SHARE_PATH];
    if (!slm2_share_find(*path, found)) return SLM2_OK;
    char *copy = strdup(found);
    if (!copy) return slm2_fail(err, SLM2_ENOMEM, "no memory for a path");
    free(*path);
    *path = copy;
    return SLM2_OK;
}

slm2_status slm2_share_settings(const struct slm2_opt *table, void *obj, struct slm2_err *err) { return slm2_conf_files(table, obj, settle, err); }

const char *slm2_share_arg(const char *arg)
{
    struct kept { struct kept *next; char path[SLM2_SHARE_PATH]; };
    static struct kept *all; /* what was given out */
    struct kept *k = malloc(sizeof *k);
    if (!k || !slm2_share_find(arg, k->path)) {
        free(k);
        return arg;
    }
    k->next = all;
    all = k;
    return k->path;
}

void slm2_share_hint(const char *msg)
{
    char dir[MAX_PLACE][SLM2_SHARE_PATH], name[SLM2_SHARE_PATH], found[SLM2_SHARE_PATH];
    if (!strstr(msg, "o such file") && !strstr(msg, "no file")) return;
    for (const char *p = msg; *p; p++) {
        size_t n = p == msg || strchr(" \"", p[-1]) ? name_length(p) : 0;
        if (!n || n >= sizeof name) continue;
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        if (slm2_path_exists(name) || slm2_share_find(name, found)) continue;
        fprintf(stderr, "slm2: %s was looked for in this folder", name);
        for (int i = 0, k = places(dir); i < k; i++) fprintf(stderr, "%s %s", i ? "," : " and in", dir[i]);
        fprintf(stderr, "; SLM2_SHARE names another folder of shared files\n");
        return;
    }
}
