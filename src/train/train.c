/* train.c - the process-wide pointers to the flags of the signal handlers: the only state of the training layer. */
#include "train/train.h"

static const volatile sig_atomic_t *stop_flag, *cooldown_flag;

void slm2_train_watch(const volatile sig_atomic_t *stop, const volatile sig_atomic_t *cooldown)
{
    stop_flag = stop;
    cooldown_flag = cooldown;
}

bool slm2_train_stop_asked(void)
{
    return stop_flag && *stop_flag;
}

bool slm2_train_cooldown_asked(void)
{
    return cooldown_flag && *cooldown_flag;
}
