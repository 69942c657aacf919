#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The request is over: keep the connection when it can carry another. */
void end_request(struct mg_engine *e, struct connection *c, enum mg_outcome outcome, int reusable, int64_t now) {
    uint32_t limit = e->target.requests_per_connection;
    c->passage.ended_ns = now;
    tally_ended(&e->tally, &c->passage, outcome);
    c->served++;
    if (!reusable || c->slot >= e->applied || (limit && c->served >= limit)) {
        replace(e, c, now);
        return;
    }
    list_remove(c);
    c->state = IDLE;
    c->passage.free_since_ns = now;
    list_append(&e->idle, c);
}

static void send_rest(struct mg_engine *e, struct connection *c) {
    uint64_t left = e->target.request_bytes - c->sent_bytes;
    ssize_t n = send(c->fd, e->request + c->sent_bytes, left, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        end_request(e, c, MG_RESET, 0, now_ns());
        return;
    }
    int was_partial = c->sent_bytes > 0;
    c->sent_bytes += n > 0 ? (uint64_t)n : 0;
    if (c->sent_bytes < e->target.request_bytes)
        watch(e, c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    else if (was_partial)
        watch(e, c, EPOLL_CTL_MOD, EPOLLIN);
}

/* Put one request on the longest free connection. intended_ns NEVER: closed loop, it is intended now. */
static void dispatch(struct mg_engine *e, struct connection *c, int64_t intended_ns) {
    int64_t now = now_ns();
    c->passage.sent_ns = now;
    c->passage.intended_ns = intended_ns == NEVER ? now : intended_ns;
    if (intended_ns == NEVER)
        tally_offered(&e->tally, now);
    list_remove(c);
    list_append(&e->pending, c);
    c->state = BUSY;
    c->since_ns = now;
    c->sent_bytes = 0;
    http1_reset(&c->parser, e->target.is_head);
    ADD(e->tally.stats.requests_total, 1);
    tally_sent(&e->tally, &c->passage);
    send_rest(e, c);
}

void serve_waiting(struct mg_engine *e, int64_t now) {
    struct connection *c;
    while ((e->backlog_count || closed_loop_sends(e, now)) && (c = list_first(&e->idle)) != NULL)
        dispatch(e, c, e->closed_loop ? NEVER : backlog_pop(e));
}

static enum mg_outcome outcome_of(const struct mg_engine *e, const struct mg_http1 *p) {
    if (p->status != e->target.expected_status)
        return (enum mg_outcome)(MG_STATUS_2XX + p->status / 100 - 2);
    int has_body = !(p->is_head || p->status == 204 || p->status == 304);
    if (has_body && e->target.expected_body_bytes >= 0 && p->body_bytes != e->target.expected_body_bytes)
        return MG_BAD_BODY;
    return MG_OK;
}

static void on_readable(struct mg_engine *e, struct connection *c) {
    ssize_t n = recv(c->fd, e->scratch, sizeof e->scratch, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    int64_t now = now_ns();
    if (c->state == IDLE) { /* closed by the peer, or bytes nobody asked for */
        replace(e, c, now);
        return;
    }
    int64_t used = n > 0 ? http1_feed(&c->parser, e->scratch, (size_t)n) : -1;
    if (n == 0 && http1_eof(&c->parser) == 0)
        used = 0;
    if (used < 0)
        end_request(e, c, MG_RESET, 0, now);
    else if (c->parser.phase == HTTP1_COMPLETE) {
        int clean = used == n && c->sent_bytes == e->target.request_bytes && !http1_closes(&c->parser);
        end_request(e, c, outcome_of(e, &c->parser), clean, now);
    }
}

void on_event(struct mg_engine *e, uint64_t mark, uint32_t events) {
    if (mark == WAKE_MARK || mark == TIMER_MARK) {
        uint64_t count;
        int fd = mark == WAKE_MARK ? e->wake_fd : e->timer_fd;
        if (read(fd, &count, sizeof count) < 0 && errno != EAGAIN)
            fail_engine(e, errno);
        return;
    }
    struct connection *c = &e->connections[mark & UINT32_MAX];
    if (c->generation != mark >> 32 || c->fd < 0)
        return;
    if (c->state == CONNECTING) {
        connected(e, c);
        return;
    }
    if (events & EPOLLOUT && c->state == BUSY)
        send_rest(e, c);
    if (events & ~(uint32_t)EPOLLOUT && c->generation == mark >> 32 && c->fd >= 0)
        on_readable(e, c);
}
