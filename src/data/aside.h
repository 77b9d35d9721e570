/* aside.h - files that several processes may make at once: each writes its own under a name with its process id, then renames it. */
#ifndef SLM2_DATA_ASIDE_H
#define SLM2_DATA_ASIDE_H
#include "base/err.h"

/* out[cap] receives "path.PID" of this process; SLM2_ELIMIT when it does not fit. */
slm2_status slm2_aside_name(char *out, size_t cap, const char *path, struct slm2_err *err);
/* Removes what killed processes left in dir: files NAME.PID and NAME.PID.tmp whose NAME ends with `tail`, that nobody has written to for ten
 * minutes and whose process is not on this host.  A process of another host that is slower than that finds its file gone and goes on without. */
void slm2_aside_clean(const char *dir, const char *tail);
#endif
