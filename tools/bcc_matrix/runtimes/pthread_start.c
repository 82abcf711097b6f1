/* What a C library built with static markers does when a thread starts, for preloading: the marker libpthread:pthread_start (thread, start
   routine, its argument), which Debian's C library is built without. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/sdt.h>

struct start {
    void *(*routine)(void *);
    void *argument;
};

static void *started(void *data)
{
    struct start start = *(struct start *)data;

    free(data);
    DTRACE_PROBE3(libpthread, pthread_start, pthread_self(), start.routine, start.argument);
    return start.routine(start.argument);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *), void *argument)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    struct start *start = malloc(sizeof(*start));
    int error;

    start->routine = routine;
    start->argument = argument;
    error = real(thread, attributes, started, start);
    if (error)
        free(start);
    return error;
}
