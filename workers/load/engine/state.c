#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define BACKLOG_START 4096u

int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

void list_init(struct list *list) {
    list->head.before = list->head.after = &list->head;
}

struct connection *list_first(struct list *list) {
    return list->head.after == &list->head ? NULL : list->head.after;
}

void list_append(struct list *list, struct connection *c) {
    c->before = list->head.before;
    c->after = &list->head;
    c->before->after = c->after->before = c;
}

void list_remove(struct connection *c) {
    if (c->before == NULL)
        return;
    c->before->after = c->after;
    c->after->before = c->before;
    c->before = c->after = NULL;
}

static int backlog_grow(struct mg_engine *e) {
    uint64_t size = e->backlog_size ? e->backlog_size * 2 : BACKLOG_START;
    int64_t *ring = malloc(size * sizeof *ring);
    if (ring == NULL)
        return -1;
    for (uint64_t i = 0; i < e->backlog_count; i++)
        ring[i] = e->backlog[(e->backlog_at + i) & (e->backlog_size - 1)];
    free(e->backlog);
    e->backlog = ring;
    e->backlog_size = size;
    e->backlog_at = 0;
    return 0;
}

void backlog_push(struct mg_engine *e, int64_t intended_ns) {
    if (e->backlog_count == e->backlog_size && backlog_grow(e)) {
        fail_engine(e, ENOMEM);
        return;
    }
    e->backlog[(e->backlog_at + e->backlog_count++) & (e->backlog_size - 1)] = intended_ns;
}

int64_t backlog_pop(struct mg_engine *e) {
    int64_t intended_ns = e->backlog[e->backlog_at];
    e->backlog_at = (e->backlog_at + 1) & (e->backlog_size - 1);
    e->backlog_count--;
    return intended_ns;
}

void fail_engine(struct mg_engine *e, int error) {
    STORE(e->tally.stats.failure_errno, (uint64_t)error);
    __atomic_store_n(&e->stop_given, 1, __ATOMIC_RELEASE);
}

int closed_loop_sends(const struct mg_engine *e, int64_t now) {
    return e->begun && e->closed_loop && !e->ending && now >= e->schedule.start_ns;
}
