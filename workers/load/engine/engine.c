/* The engine as others see it: opened, given work, read, closed. The hot loop is in loop.c and requests.c. */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static void release(struct mg_engine *e) {
    int fds[] = {e->epoll_fd, e->wake_fd, e->timer_fd, e->schedstat_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    tally_close(&e->tally);
    free(e->connections);
    free(e->backlog);
    free(e->request);
    free(e);
}

static int open_descriptors(struct mg_engine *e) {
    struct epoll_event wake = {.events = EPOLLIN, .data.u64 = WAKE_MARK};
    struct epoll_event timer = {.events = EPOLLIN, .data.u64 = TIMER_MARK};
    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    e->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (e->epoll_fd < 0 || e->wake_fd < 0 || e->timer_fd < 0)
        return -1;
    return epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->wake_fd, &wake)
           || epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->timer_fd, &timer);
}

static int copy_target(struct mg_engine *e, const struct mg_target *target) {
    e->target = *target;
    e->request = malloc(target->request_bytes);
    e->connections = calloc(target->capacity, sizeof *e->connections);
    if (e->request == NULL || e->connections == NULL)
        return -1;
    memcpy(e->request, target->request, target->request_bytes);
    e->target.request = NULL; /* the caller's memory */
    for (uint32_t slot = 0; slot < target->capacity; slot++) {
        e->connections[slot].slot = slot;
        e->connections[slot].fd = -1;
    }
    return 0;
}

struct mg_engine *mg_open(const struct mg_target *target) {
    struct mg_engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    e->epoll_fd = e->wake_fd = e->timer_fd = e->schedstat_fd = -1;
    e->has_pwait2 = !target->without_pwait2;
    e->next_arrival_ns = NEVER;
    list_init(&e->idle);
    list_init(&e->pending);
    list_init(&e->retrying);
    int error = tally_open(&e->tally);
    if (!error && (copy_target(e, target) || open_descriptors(e)))
        error = errno;
    if (!error)
        error = pthread_create(&e->thread, NULL, run_engine, e);
    if (error) {
        release(e);
        errno = error;
        return NULL;
    }
    return e;
}

static void wake(struct mg_engine *e) {
    uint64_t one = 1;
    if (write(e->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        fail_engine(e, errno);
}

void mg_set_connections(struct mg_engine *e, uint32_t connections) {
    uint32_t most = e->target.capacity;
    __atomic_store_n(&e->wanted, connections < most ? connections : most, __ATOMIC_RELEASE);
    wake(e);
}

int mg_begin(struct mg_engine *e, const struct mg_schedule *schedule) {
    if (__atomic_load_n(&e->begin_given, __ATOMIC_ACQUIRE))
        return EALREADY;
    int error = tally_begin(&e->tally, schedule);
    if (error)
        return error;
    e->schedule = *schedule;
    __atomic_store_n(&e->begin_given, 1, __ATOMIC_RELEASE);
    wake(e);
    return 0;
}

void mg_stop(struct mg_engine *e) {
    __atomic_store_n(&e->stop_given, 1, __ATOMIC_RELEASE);
    wake(e);
}

void mg_close(struct mg_engine *e) {
    mg_stop(e);
    pthread_join(e->thread, NULL);
    release(e);
}

uint32_t mg_abi(void) {
    return MG_ABI;
}

uint64_t mg_struct_bytes(uint32_t which) {
    uint64_t bytes[] = {sizeof(struct mg_target), sizeof(struct mg_schedule), sizeof(struct mg_second),
                        sizeof(struct mg_stats), MG_CELLS};
    return which < sizeof bytes / sizeof *bytes ? bytes[which] : 0;
}

struct mg_stats *mg_stats(struct mg_engine *e) {
    return &e->tally.stats;
}

uint64_t *mg_histograms(struct mg_engine *e) {
    return e->tally.histograms;
}

uint64_t *mg_live(struct mg_engine *e) {
    return e->tally.live;
}

uint32_t *mg_batches(struct mg_engine *e) {
    return e->tally.batches;
}

struct mg_second *mg_seconds(struct mg_engine *e) {
    return e->tally.seconds;
}

uint32_t *mg_second_counts(struct mg_engine *e) {
    return e->tally.second_counts;
}

uint64_t *mg_edges(struct mg_engine *e) {
    return e->tally.edges;
}

void mg_release_second(struct mg_engine *e, uint64_t second) {
    tally_release_second(&e->tally, second);
}
