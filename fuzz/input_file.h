/* input_file.h - the input as a file in memory, for readers that want a path. */
#ifndef SLM2_FUZZ_INPUT_FILE_H
#define SLM2_FUZZ_INPUT_FILE_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* A file with these bytes; its path goes to path.  close() what is returned. */
static inline int input_file(const void *bytes, size_t n, char path[64])
{
    int fd = memfd_create("input", 0);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n) abort();
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}
#endif
