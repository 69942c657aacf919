#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

void watch(struct mg_engine *e, struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)c->generation << 32 | c->slot};
    if (epoll_ctl(e->epoll_fd, operation, c->fd, &event))
        fail_engine(e, errno);
}

void shut(struct mg_engine *e, struct connection *c) {
    list_remove(c);
    if (c->fd >= 0)
        close(c->fd);
    if (c->state == IDLE || c->state == BUSY)
        STORE(e->tally.stats.connections_open, e->tally.stats.connections_open - 1);
    c->fd = -1;
    c->state = CLOSED;
}

/* Nobody will carry this arrival: it was tried (counts as sent) and could not connect. */
static void fail_arrival(struct mg_engine *e, int64_t intended_ns, int64_t tried_ns, int64_t now) {
    int64_t sent_ns = tried_ns > intended_ns ? tried_ns : intended_ns;
    struct passage passage = {intended_ns, sent_ns, sent_ns, now};
    tally_sent(&e->tally, &passage);
    tally_ended(&e->tally, &passage, MG_CONNECT_FAILURE);
}

static void retry_later(struct mg_engine *e, struct connection *c, int64_t now) {
    shut(e, c);
    c->state = RETRY;
    c->since_ns = now;
    list_append(&e->retrying, c);
}

/* A failed connect costs the arrivals that waited for it: all of them when no other connection is open. */
void connect_failed(struct mg_engine *e, struct connection *c, int error, int64_t now) {
    struct mg_stats *stats = &e->tally.stats;
    int64_t tried_ns = c->since_ns;
    ADD(stats->connect_failures, 1);
    STORE(stats->connect_errno, (uint64_t)error);
    retry_later(e, c, now);
    if (closed_loop_sends(e, now)) {
        int64_t intended_ns = tried_ns > e->schedule.start_ns ? tried_ns : e->schedule.start_ns;
        tally_offered(&e->tally, intended_ns);
        fail_arrival(e, intended_ns, intended_ns, now);
    }
    uint64_t count = stats->connections_open ? (e->backlog_count > 0) : e->backlog_count;
    while (count--)
        fail_arrival(e, backlog_pop(e), tried_ns, now);
}

void open_connection(struct mg_engine *e, struct connection *c, int64_t now) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_port = htons((uint16_t)e->target.port);
    address.sin_addr.s_addr = e->target.address_be;
    c->since_ns = now;
    c->served = 0;
    c->generation++;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        connect_failed(e, c, errno, now);
        return;
    }
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
        connect_failed(e, c, errno, now);
        return;
    }
    c->state = CONNECTING;
    list_append(&e->pending, c);
    watch(e, c, EPOLL_CTL_ADD, EPOLLOUT);
}

void connected(struct mg_engine *e, struct connection *c) {
    int error = 0;
    socklen_t bytes = sizeof error;
    int64_t now = now_ns();
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &bytes))
        error = errno;
    if (error) {
        connect_failed(e, c, error, now);
        return;
    }
    watch(e, c, EPOLL_CTL_MOD, EPOLLIN);
    list_remove(c);
    c->state = IDLE;
    c->passage.free_since_ns = now;
    list_append(&e->idle, c);
    ADD(e->tally.stats.connections_open, 1);
    ADD(e->tally.stats.connections_opened, 1);
}

/* Close a socket and see to its successor. */
void replace(struct mg_engine *e, struct connection *c, int64_t now) {
    uint32_t served = c->served;
    shut(e, c);
    if (c->slot >= e->applied || (e->ending && e->backlog_count == 0))
        return;
    if (served)
        open_connection(e, c, now);
    else
        retry_later(e, c, now);
}

void adjust_connections(struct mg_engine *e, int64_t now) {
    uint32_t wanted = __atomic_load_n(&e->wanted, __ATOMIC_ACQUIRE);
    if (wanted == e->applied)
        return;
    uint32_t low = wanted < e->applied ? wanted : e->applied;
    uint32_t high = wanted < e->applied ? e->applied : wanted;
    e->applied = wanted;
    for (uint32_t slot = low; slot < high; slot++) {
        struct connection *c = &e->connections[slot];
        if (c->state == CLOSED && slot < wanted)
            open_connection(e, c, now);
        else if (c->state != BUSY && slot >= wanted)
            shut(e, c);
    }
}
