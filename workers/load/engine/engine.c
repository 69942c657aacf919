/* The hot loop: one thread, N non-blocking connections, a schedule of intended starts. */
#define _GNU_SOURCE
#include "engine.h"

#include "arrivals.h"
#include "http1.h"
#include "tally.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

#define EVENTS_A_ROUND 256
#define READ_BYTES 65536
#define RETRY_AFTER_NS 5000000ll /* pause before a connection that got nowhere is tried again */
#define BACKLOG_START 4096u
#define WAKE_MARK UINT64_MAX
#define TIMER_MARK (UINT64_MAX - 1)
#define NEVER INT64_MAX

enum connection_state { CLOSED, CONNECTING, IDLE, BUSY, RETRY };

struct connection {
    struct connection *before, *after; /* neighbours in the list of its state */
    int fd;
    enum connection_state state;
    uint32_t slot;
    uint32_t generation; /* grows with every socket, so that stale events are told apart */
    uint32_t served; /* replies on this socket */
    int64_t since_ns; /* of a connect, a send or a failure: deadlines count from here */
    uint64_t sent_bytes;
    struct passage passage;
    struct mg_http1 parser;
};

/* Ring of connections with a sentinel; all waits of one list are equally long, so its head is due first. */
struct list {
    struct connection head;
};

struct mg_engine {
    struct mg_target target;
    char *request;
    struct tally tally;
    struct arrivals arrivals;
    struct connection *connections;
    struct list idle, pending, retrying; /* idle: longest free first, so requests go round */
    int64_t *backlog; /* intended starts without a connection, oldest first; a ring */
    uint64_t backlog_at, backlog_count, backlog_size;
    int64_t next_arrival_ns, drain_end_ns;
    uint64_t seconds_edges;
    uint32_t applied; /* connections wanted, as far as the thread has seen */
    int begun, ending, closed_loop;
    int epoll_fd, wake_fd, timer_fd, schedstat_fd;
    int has_pwait2;
    uint32_t wanted, begin_given, stop_given; /* written by others, atomically */
    struct mg_schedule schedule; /* published by begin_given */
    pthread_t thread;
    char scratch[READ_BYTES];
};

static int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

static int64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

static int64_t sooner(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- lists ---- */

static void list_init(struct list *list) {
    list->head.before = list->head.after = &list->head;
}

static struct connection *list_first(struct list *list) {
    return list->head.after == &list->head ? NULL : list->head.after;
}

static void list_append(struct list *list, struct connection *c) {
    c->before = list->head.before;
    c->after = &list->head;
    c->before->after = c->after->before = c;
}

static void list_remove(struct connection *c) {
    if (c->before == NULL)
        return;
    c->before->after = c->after;
    c->after->before = c->before;
    c->before = c->after = NULL;
}

/* ---- backlog ---- */

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

static void fail_engine(struct mg_engine *e, int error) {
    STORE(e->tally.stats.failure_errno, (uint64_t)error);
    __atomic_store_n(&e->stop_given, 1, __ATOMIC_RELEASE);
}

static void backlog_push(struct mg_engine *e, int64_t intended_ns) {
    if (e->backlog_count == e->backlog_size && backlog_grow(e)) {
        fail_engine(e, ENOMEM);
        return;
    }
    e->backlog[(e->backlog_at + e->backlog_count++) & (e->backlog_size - 1)] = intended_ns;
}

static int64_t backlog_pop(struct mg_engine *e) {
    int64_t intended_ns = e->backlog[e->backlog_at];
    e->backlog_at = (e->backlog_at + 1) & (e->backlog_size - 1);
    e->backlog_count--;
    return intended_ns;
}

/* ---- connections ---- */

static int closed_loop_sends(const struct mg_engine *e, int64_t now) {
    return e->begun && e->closed_loop && !e->ending && now >= e->schedule.start_ns;
}

static void watch(struct mg_engine *e, struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)c->generation << 32 | c->slot};
    if (epoll_ctl(e->epoll_fd, operation, c->fd, &event))
        fail_engine(e, errno);
}

static void shut(struct mg_engine *e, struct connection *c) {
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
static void connect_failed(struct mg_engine *e, struct connection *c, int error, int64_t now) {
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

static void open_connection(struct mg_engine *e, struct connection *c, int64_t now) {
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

static void connected(struct mg_engine *e, struct connection *c) {
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
static void replace(struct mg_engine *e, struct connection *c, int64_t now) {
    uint32_t served = c->served;
    shut(e, c);
    if (c->slot >= e->applied || (e->ending && e->backlog_count == 0))
        return;
    if (served)
        open_connection(e, c, now);
    else
        retry_later(e, c, now);
}

static void adjust_connections(struct mg_engine *e, int64_t now) {
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

/* ---- requests ---- */

/* The request is over: keep the connection when it can carry another. */
static void end_request(struct mg_engine *e, struct connection *c, enum mg_outcome outcome, int reusable, int64_t now) {
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

static void serve_waiting(struct mg_engine *e, int64_t now) {
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

static void on_event(struct mg_engine *e, const struct epoll_event *event) {
    if (event->data.u64 == WAKE_MARK || event->data.u64 == TIMER_MARK) {
        uint64_t count;
        int fd = event->data.u64 == WAKE_MARK ? e->wake_fd : e->timer_fd;
        if (read(fd, &count, sizeof count) < 0 && errno != EAGAIN)
            fail_engine(e, errno);
        return;
    }
    struct connection *c = &e->connections[event->data.u64 & UINT32_MAX];
    if (c->generation != event->data.u64 >> 32 || c->fd < 0)
        return;
    if (c->state == CONNECTING) {
        connected(e, c);
        return;
    }
    if (event->events & EPOLLOUT && c->state == BUSY)
        send_rest(e, c);
    if (event->events & ~(uint32_t)EPOLLOUT && c->generation == event->data.u64 >> 32 && c->fd >= 0)
        on_readable(e, c);
}

/* ---- time ---- */

static void expire(struct mg_engine *e, int64_t now) {
    struct connection *c;
    while ((c = list_first(&e->pending)) != NULL && c->since_ns + e->target.timeout_ns <= now) {
        if (c->state == CONNECTING)
            connect_failed(e, c, ETIMEDOUT, now);
        else
            end_request(e, c, MG_TIMEOUT, 0, now);
    }
    while ((c = list_first(&e->retrying)) != NULL && c->since_ns + RETRY_AFTER_NS <= now) {
        shut(e, c);
        open_connection(e, c, now);
    }
}

static void read_run_delay(struct mg_engine *e, uint64_t *delay_ns) {
    char text[128];
    ssize_t n = e->schedstat_fd < 0 ? -1 : pread(e->schedstat_fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return;
    text[n] = 0;
    char *end;
    strtoull(text, &end, 10); /* time on a CPU; the second number is the time spent waiting for one */
    STORE(*delay_ns, strtoull(end, NULL, 10));
    ADD(e->tally.stats.run_delay_known, 1);
}

static int64_t edge_ns(const struct mg_engine *e, uint64_t edge) {
    if (edge >= e->seconds_edges)
        return NEVER;
    return edge + 1 == e->seconds_edges ? e->schedule.window_end_ns
                                        : e->schedule.window_start_ns + (int64_t)edge * NS_PER_S;
}

static void pass_edges(struct mg_engine *e, int64_t now) {
    struct mg_stats *stats = &e->tally.stats;
    while (now >= edge_ns(e, stats->edges_passed)) {
        uint64_t edge = stats->edges_passed;
        STORE(e->tally.edges[edge], (uint64_t)clock_ns(CLOCK_THREAD_CPUTIME_ID));
        if (edge == 0)
            read_run_delay(e, &stats->run_delay_start_ns);
        if (edge + 1 == e->seconds_edges)
            read_run_delay(e, &stats->run_delay_end_ns);
        __atomic_store_n(&stats->edges_passed, edge + 1, __ATOMIC_RELEASE);
    }
}

static void take_schedule(struct mg_engine *e) {
    if (e->begun || !__atomic_load_n(&e->begin_given, __ATOMIC_ACQUIRE))
        return;
    e->begun = 1;
    e->closed_loop = e->schedule.arrival == MG_CLOSED;
    e->seconds_edges = e->tally.window_seconds + 1;
    int64_t last_call_ns = e->schedule.window_end_ns + e->target.timeout_ns;
    e->drain_end_ns = last_call_ns > e->schedule.end_ns ? last_call_ns : e->schedule.end_ns;
    arrivals_init(&e->arrivals, &e->schedule);
    e->next_arrival_ns = e->closed_loop ? NEVER : arrivals_next(&e->arrivals);
    STORE(e->tally.stats.state, MG_RUNNING);
}

static void admit_arrivals(struct mg_engine *e, int64_t now) {
    while (e->next_arrival_ns <= now && e->next_arrival_ns < e->schedule.end_ns) {
        tally_offered(&e->tally, e->next_arrival_ns);
        backlog_push(e, e->next_arrival_ns);
        e->next_arrival_ns = arrivals_next(&e->arrivals);
    }
}

/* After the end nothing new is sent, save window arrivals that still wait: they get until drain_end. */
static void wind_down(struct mg_engine *e, int64_t now) {
    if (!e->ending) {
        e->ending = 1;
        e->next_arrival_ns = NEVER;
        STORE(e->tally.stats.state, MG_DRAINING);
        while (e->backlog_count) { /* cool-down arrivals are at the tail */
            uint64_t tail = (e->backlog_at + e->backlog_count - 1) & (e->backlog_size - 1);
            if (e->backlog[tail] < e->schedule.window_end_ns)
                break;
            e->backlog_count--;
        }
    }
    if (now >= e->drain_end_ns)
        while (e->backlog_count)
            tally_dropped(&e->tally, backlog_pop(e));
}

static int any_busy(struct mg_engine *e) {
    for (struct connection *c = e->pending.head.after; c != &e->pending.head; c = c->after)
        if (c->state == BUSY)
            return 1;
    return 0;
}

/* One look at the clock: everything that is due. Returns 1 when the schedule is done. */
static int do_what_is_due(struct mg_engine *e) {
    int64_t now = now_ns();
    adjust_connections(e, now);
    take_schedule(e);
    expire(e, now);
    if (!e->begun)
        return 0;
    admit_arrivals(e, now);
    pass_edges(e, now); /* after the arrivals: a passed edge says that its second has all of them */
    if (now >= e->schedule.end_ns)
        wind_down(e, now);
    serve_waiting(e, now);
    if (now >= e->schedule.window_start_ns && now < e->schedule.window_end_ns
        && e->backlog_count > e->tally.stats.backlog_peak)
        STORE(e->tally.stats.backlog_peak, e->backlog_count);
    return e->ending && e->backlog_count == 0 && !any_busy(e);
}

static int64_t next_due_ns(struct mg_engine *e) {
    int64_t due = NEVER;
    struct connection *c;
    if ((c = list_first(&e->pending)) != NULL)
        due = sooner(due, c->since_ns + e->target.timeout_ns);
    if ((c = list_first(&e->retrying)) != NULL)
        due = sooner(due, c->since_ns + RETRY_AFTER_NS);
    if (!e->begun)
        return due;
    due = sooner(due, e->next_arrival_ns);
    due = sooner(due, edge_ns(e, e->tally.stats.edges_passed));
    due = sooner(due, e->ending ? e->drain_end_ns : e->schedule.end_ns);
    if (e->closed_loop && list_first(&e->idle) && !e->ending)
        due = sooner(due, e->schedule.start_ns);
    return due;
}

static int wait_with_timerfd(struct mg_engine *e, struct epoll_event *events, int64_t due_ns, int64_t left_ns) {
    if (left_ns <= 0)
        return epoll_wait(e->epoll_fd, events, EVENTS_A_ROUND, 0);
    struct itimerspec at = {.it_value = {0}};
    if (due_ns != NEVER) {
        at.it_value.tv_sec = due_ns / NS_PER_S;
        at.it_value.tv_nsec = due_ns % NS_PER_S;
    }
    timerfd_settime(e->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
    return epoll_wait(e->epoll_fd, events, EVENTS_A_ROUND, -1);
}

static int wait_for_events(struct mg_engine *e, struct epoll_event *events) {
    int64_t due_ns = next_due_ns(e);
    int64_t left_ns = due_ns == NEVER ? NEVER : due_ns - now_ns();
    if (!e->has_pwait2)
        return wait_with_timerfd(e, events, due_ns, left_ns);
    left_ns = left_ns > 0 ? left_ns : 0;
    struct timespec left = {.tv_sec = left_ns / NS_PER_S, .tv_nsec = left_ns % NS_PER_S};
    struct timespec *wait = due_ns == NEVER ? NULL : &left;
    int n = (int)syscall(SYS_epoll_pwait2, e->epoll_fd, events, EVENTS_A_ROUND, wait, NULL, (size_t)0);
    if (n < 0 && (errno == ENOSYS || errno == EPERM)) { /* kernel before 5.11, or a seccomp filter */
        e->has_pwait2 = 0;
        return 0;
    }
    return n;
}

/* ---- thread ---- */

static void prepare_thread(struct mg_engine *e) {
    STORE(e->tally.stats.thread_id, (uint64_t)syscall(SYS_gettid));
    prctl(PR_SET_NAME, "mg-engine");
    prctl(PR_SET_TIMERSLACK, 1ul);
    if (e->target.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((unsigned)e->target.cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    if (e->target.fifo_priority > 0) {
        struct sched_param wish = {.sched_priority = e->target.fifo_priority};
        STORE(e->tally.stats.fifo_applied, (uint64_t)(sched_setscheduler(0, SCHED_FIFO, &wish) == 0));
    }
    e->schedstat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

static void *run(void *engine) {
    struct mg_engine *e = engine;
    struct epoll_event events[EVENTS_A_ROUND];
    int done = 0;
    prepare_thread(e);
    while (!__atomic_load_n(&e->stop_given, __ATOMIC_ACQUIRE) && !(done = do_what_is_due(e))) {
        int n = wait_for_events(e, events);
        if (n < 0 && errno != EINTR)
            fail_engine(e, errno);
        for (int i = 0; i < n; i++) {
            on_event(e, &events[i]);
            if (e->backlog_count || e->closed_loop)
                serve_waiting(e, e->closed_loop ? now_ns() : 0);
        }
    }
    for (uint32_t slot = 0; slot < e->target.capacity; slot++)
        shut(e, &e->connections[slot]);
    uint64_t end_state = done ? MG_FINISHED : e->tally.stats.failure_errno ? MG_FAILED : MG_STOPPED;
    __atomic_store_n(&e->tally.stats.state, end_state, __ATOMIC_RELEASE);
    return NULL;
}

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
        error = pthread_create(&e->thread, NULL, run, e);
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

/* ---- what others read ---- */

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
