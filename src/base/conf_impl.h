/* conf_impl.h - what reading (conf.c) and showing (conf_show.c) settings share: where a field lies, whether it was ever set. */
#ifndef SLM2_BASE_CONF_IMPL_H
#define SLM2_BASE_CONF_IMPL_H
#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/conf.h"

static inline void *slm2_conf_field(const struct slm2_opt *row, void *obj) { return (char *)obj + row->offset; }
static inline const void *slm2_conf_cfield(const struct slm2_opt *row, const void *obj) { return (const char *)obj + row->offset; }
static inline bool slm2_conf_is_required(const struct slm2_opt *row) { return row->def && !strcmp(row->def, "!"); }
static inline bool slm2_conf_has_range(const struct slm2_opt *row) { return row->lo != 0 || row->hi != 0; }

/* Required numbers start with a value that no text can give; required strings and lists start empty. */
static inline bool slm2_conf_is_unset(const struct slm2_opt *row, const void *obj)
{
    const void *f = slm2_conf_cfield(row, obj);
    if (!slm2_conf_is_required(row)) return false;
    switch (row->type) {
    case SLM2_OPT_INT: return *(const int *)f == INT_MIN;
    case SLM2_OPT_INT64: return *(const int64_t *)f == INT64_MIN;
    case SLM2_OPT_FLOAT: return isnan(*(const float *)f);
    case SLM2_OPT_DOUBLE: return isnan(*(const double *)f);
    case SLM2_OPT_BOOL: return false;
    case SLM2_OPT_STR: return !*(char *const *)f || !**(char *const *)f;
    case SLM2_OPT_ENUM: return *(const int *)f < 0;
    case SLM2_OPT_LIST:
    case SLM2_OPT_STRS: return ((const struct slm2_conf_list *)f)->n == 0;
    }
    return false;
}
#endif
