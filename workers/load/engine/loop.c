#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

static uint64_t thread_cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int64_t sooner(int64_t a, int64_t b) {
    return a < b ? a : b;
}

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
        STORE(e->tally.edges[edge], thread_cpu_ns());
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

void *run_engine(void *engine) {
    struct mg_engine *e = engine;
    struct epoll_event events[EVENTS_A_ROUND];
    int done = 0;
    prepare_thread(e);
    while (!__atomic_load_n(&e->stop_given, __ATOMIC_ACQUIRE) && !(done = do_what_is_due(e))) {
        int n = wait_for_events(e, events);
        if (n < 0 && errno != EINTR)
            fail_engine(e, errno);
        for (int i = 0; i < n; i++) {
            on_event(e, events[i].data.u64, events[i].events);
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
